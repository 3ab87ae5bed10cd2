"""The kinds of values in every message: ids, times and counts, and their limits (docs/contract.md, Values)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

YEAR_MIN = 2000
YEAR_MAX = 2100

NO_CONTROL_CHARACTERS = r"^[^\x00-\x1f\x7f-\x9f]+$"
_RFC_3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}T([01]\d|2[0-3]):[0-5]\d:([0-5]\d|(?P<leap>60))(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)


class WithinBytes(NamedTuple):
    """Refuses texts of more bytes of UTF-8; of ASCII, the number of characters says it."""

    limit: int

    def __call__(self, text: str) -> str:
        if not text.isascii() and len(text.encode()) > self.limit:
            raise ValueError(f"must be at most {self.limit} bytes of UTF-8")
        return text


Id = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=128, pattern=NO_CONTROL_CHARACTERS),
    AfterValidator(WithinBytes(128)),
]
"""An opaque string of 1 to 128 bytes of UTF-8, without control characters."""


def _no_wildcard(text: str) -> str:
    if text == "*":
        raise ValueError("* stands for every organization; it is none")
    return text


OrgId = Annotated[Id, AfterValidator(_no_wildcard), Field(json_schema_extra={"not": {"const": "*"}})]
"""The ``Id`` of an organization; a token that is good for all of them says ``*``, so none is called that."""

EventId = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=256, pattern=NO_CONTROL_CHARACTERS),
    AfterValidator(WithinBytes(256)),
]
"""As ``Id``, of up to 256 bytes: the ``id`` and ``source`` of an event."""


def parse_time(value: Any) -> datetime:
    """An RFC 3339 time with an offset, as UTC with microseconds; further digits are cut off.

    A leap second, 23:59:60 in UTC, is a time. Clocks that count without it have no number for it: it is the second
    before, so that it stays on its day.

    Raises ValueError that says what is wrong: not a string, not RFC 3339, without an offset, or outside 2000 to 2100.
    """
    if not isinstance(value, str):
        raise ValueError("must be an RFC 3339 time as a string")  # noqa: TRY004 - pydantic reports ValueErrors
    text = value.upper()
    found = _RFC_3339.fullmatch(text)
    if found is None:
        raise ValueError("must be an RFC 3339 time with an offset, such as 2026-04-27T09:30:00Z")
    leaps = found["leap"] is not None
    try:
        at = datetime.fromisoformat(text.replace(":60", ":59", 1) if leaps else text)
        if at.tzinfo is not UTC:
            at = at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not a time that exists") from None
    if leaps and (at.hour, at.minute) != (23, 59):
        raise ValueError("is not a time that exists")
    if not YEAR_MIN <= at.year <= YEAR_MAX:
        raise ValueError(f"must lie in the years {YEAR_MIN} to {YEAR_MAX}")
    return at


Time = Annotated[datetime, BeforeValidator(parse_time), WithJsonSchema({"type": "string", "format": "date-time"})]
"""An instant: RFC 3339 with an offset, years 2000 to 2100, kept in UTC with microseconds."""

Calls = Annotated[int, Field(strict=True, ge=1, le=10**6)]
Tokens = Annotated[int, Field(strict=True, ge=0, le=10**10)]
Flag = Annotated[bool, Field(strict=True)]
Usd = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9]{1,12}(\.[0-9]{1,18})?$")]
"""US dollars as a plain decimal in quotes, such as "0.0125"."""
