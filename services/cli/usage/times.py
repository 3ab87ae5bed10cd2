"""Times as other programs write them, moved so that a trace starts when we want it to."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from schemas.fields import YEAR_MAX, YEAR_MIN, parse_time
from services.cli.usage.formats import TimeFormat

TimeReader = Callable[[Any], datetime | None]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_MAX = 10**11
_LENIENT = re.compile(
    r"(?P<date>\d{4}-?\d{2}-?\d{2})([T ](?P<minutes>\d{2}:\d{2})(?P<seconds>:\d{2}(\.\d+)?)?"
    r" ?(?P<offset>Z|UTC|[+-]\d{2}(:?\d{2})?)?)?",
    re.ASCII | re.IGNORECASE,
)
_ROUNDED = re.compile(r"[+-]?\d+(\.\d+)?E[+-]?\d+", re.ASCII | re.IGNORECASE)
_NO_OFFSET = "has no offset; --time-zone NAME says where its clock stood, e.g. Europe/Berlin (--assume-utc: UTC)"


def has_lost_digits(text: str) -> bool:
    """Whether a number is written as spreadsheets do that have rounded it: ``1.79517E+12``."""
    return _ROUNDED.fullmatch(text.strip()) is not None


def time_zone(name: str) -> ZoneInfo:
    """The zone of a name such as ``Europe/Berlin``. Raises ValueError where there is none."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise ValueError(f"--time-zone {name}: there is no such time zone here; e.g. UTC, Europe/Berlin") from None


def time_reader(time_format: str, zone: ZoneInfo | None) -> TimeReader:
    """What reads a file's times: UTC, with microseconds, further digits cut off. Raises ValueError for a bad pattern.

    ``iso`` is RFC 3339, also with a space for the T, without seconds, or a date alone, which is its midnight. ``unix``
    and ``unix-ms`` count seconds or milliseconds since 1970, with or without decimals. Anything with a ``%`` is a
    pattern of strptime. Where a time has no offset, ``zone`` says whose clock it is; without one it is refused.

    ``iso`` gives None for what is no such time: the reader of events says why not, in the words that it has for all.
    The others, and a time zone, raise ValueError.
    """
    match time_format:
        case TimeFormat.ISO:
            return lambda value: _read_iso(value, zone)
        case TimeFormat.UNIX:
            return lambda value: _read_unix(value, 1)
        case TimeFormat.UNIX_MS:
            return lambda value: _read_unix(value, 1_000)
    if "%" not in time_format:
        names = ", ".join(TimeFormat)
        raise ValueError(f"--time-format {time_format}: write {names}, or a pattern such as '%d.%m.%Y %H:%M'")
    return lambda value: _read_pattern(value, time_format, zone)


def _read_iso(value: Any, zone: ZoneInfo | None) -> datetime | None:
    match = _LENIENT.fullmatch(value.strip()) if isinstance(value, str) else None
    try:
        if match is None or match["offset"]:
            return parse_time(value if match is None else _rfc_3339(match))
        local = datetime.fromisoformat(_clock(match))
    except ValueError:
        return None
    if zone is None:
        return None
    at = _in_zone(local, zone)
    return at if YEAR_MIN <= at.year <= YEAR_MAX else None


def _refuse_rounded(text: str) -> None:
    if has_lost_digits(text):
        raise ValueError(
            "has lost digits in a spreadsheet; export the column as text, or take the file as it was before"
        )


def _clock(match: re.Match[str]) -> str:
    digits = match["date"].replace("-", "")
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}T{match['minutes'] or '00:00'}{match['seconds'] or ':00'}"


def _rfc_3339(match: re.Match[str]) -> str:
    offset = match["offset"].upper().replace("UTC", "Z")
    if len(offset) == 3:
        offset += ":00"
    elif len(offset) > 1 and ":" not in offset:
        offset = f"{offset[:3]}:{offset[3:]}"
    return f"{_clock(match)}{offset}"


def _read_pattern(value: Any, pattern: str, zone: ZoneInfo | None) -> datetime:
    try:
        at = datetime.strptime(str(value).strip(), pattern)  # noqa: DTZ007 - the zone comes next
    except ValueError:
        raise ValueError(f"is not written as {pattern}") from None
    return parse_time((at if at.tzinfo is not None else _in_zone(at, zone)).isoformat())


def _in_zone(local: datetime, zone: ZoneInfo | None) -> datetime:
    """What the clock of the zone meant. Raises ValueError in the hours in which it meant nothing, or two things."""
    if zone is None:
        raise ValueError(_NO_OFFSET)
    if zone.key == "UTC":
        return local.replace(tzinfo=UTC)
    earlier, later = (local.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if earlier.utcoffset() != later.utcoffset():
        skipped = earlier.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local
        there = "not there" if skipped else "there twice"
        raise ValueError(f"is {there} in {zone.key}, where clocks were changed; write an offset")
    return earlier.astimezone(UTC)


def _read_unix(value: Any, unit: int) -> datetime:
    text = str(value).strip()
    if isinstance(value, str):
        _refuse_rounded(text)
    try:
        seconds = Decimal(text) / unit
    except InvalidOperation:
        raise ValueError("must be a number of seconds or milliseconds since 1970") from None
    if not (seconds.is_finite() and abs(seconds) < _SECONDS_MAX):
        raise ValueError("is too large to be a time since 1970")
    if seconds < 0:
        raise ValueError("must not be negative")
    try:
        return _EPOCH + timedelta(microseconds=int(seconds * 1_000_000))
    except OverflowError:
        raise ValueError("is too large to be a time since 1970") from None


class Shift:
    """Moves times so that the first one read comes to lie at ``start``; the spacing stays. None: nothing moves.

    Numbers that are too small to count from 1970 count from 0, and 0 is ``start`` then.
    """

    def __init__(self, start: datetime | None) -> None:
        self._start = start
        self._by: timedelta | None = None

    def __call__(self, at: datetime) -> datetime:
        """The moved time. Raises ValueError where there is no such time."""
        if self._start is None:
            if at.year < YEAR_MIN:
                raise ValueError(f"lies before {YEAR_MIN}; where times count from 0, --start says what 0 is")
            return at
        if self._by is None:
            self._by = self._start - (_EPOCH if at.year < YEAR_MIN else at)
        try:
            return at + self._by
        except OverflowError:
            raise ValueError("is too far from the first row's time") from None
