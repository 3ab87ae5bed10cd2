"""Times as other programs write them, moved so that a trace starts when we want it to."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from schemas.fields import parse_time
from services.cli.usage.formats import TimeFormat

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_MAX = 10**11
_LENIENT = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})[T ](?P<time>\d{2}:\d{2}:\d{2}(\.\d+)?) ?(?P<offset>Z|UTC|[+-]\d{2}:?\d{2})?",
    re.ASCII | re.IGNORECASE,
)


def time_reader(time_format: TimeFormat, *, assume_utc: bool) -> Callable[[Any], datetime | None]:
    """What reads a file's times: UTC, with microseconds, further digits cut off.

    ``iso`` is RFC 3339, also with a space for the T; only with ``assume_utc`` may the offset be missing. For anything
    else it gives None: the reader of events says why not. ``unix`` and ``unix-ms`` count seconds or milliseconds since
    1970, with or without decimals; for anything else they raise ValueError.
    """
    if time_format is TimeFormat.ISO:
        return lambda value: _read_iso(value, assume_utc=assume_utc)
    unit = 1 if time_format is TimeFormat.UNIX else 1_000
    return lambda value: _read_unix(value, unit)


def _read_iso(value: Any, *, assume_utc: bool) -> datetime | None:
    match = _LENIENT.fullmatch(value.strip()) if isinstance(value, str) else None
    try:
        return parse_time(value if match is None else _rfc_3339(match, assume_utc=assume_utc))
    except ValueError:
        return None


def _rfc_3339(match: re.Match[str], *, assume_utc: bool) -> str:
    offset = (match["offset"] or ("Z" if assume_utc else "")).upper().replace("UTC", "Z")
    if len(offset) > 1 and ":" not in offset:
        offset = f"{offset[:3]}:{offset[3:]}"
    return f"{match['date']}T{match['time']}{offset}"


def _read_unix(value: Any, unit: int) -> datetime:
    try:
        seconds = Decimal(str(value).strip()) / unit
    except InvalidOperation:
        raise ValueError("must be a number of seconds or milliseconds since 1970") from None
    if not (seconds.is_finite() and abs(seconds) < _SECONDS_MAX):
        raise ValueError("is too large to be a time since 1970")
    return parse_time((_EPOCH + timedelta(microseconds=int(seconds * 1_000_000))).isoformat())


class Shift:
    """Moves times so that the first one read comes to lie at ``start``; the spacing stays. None: nothing moves."""

    def __init__(self, start: datetime | None) -> None:
        self._start = start
        self._by: timedelta | None = None

    def __call__(self, at: datetime) -> datetime:
        """The moved time. Raises ValueError where there is no such time."""
        if self._start is None:
            return at
        if self._by is None:
            self._by = self._start - at
        try:
            return at + self._by
        except OverflowError:
            raise ValueError("is too far from the first row's time") from None
