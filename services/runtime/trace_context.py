"""The trace that a request, a record or an event belongs to, as W3C Trace Context has it (``traceparent``)."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import NamedTuple

TRACEPARENT = "traceparent"
"""The name of the HTTP header, of the Kafka record's header, and of CloudEvents' extension attribute."""

_SAMPLED = 0x01
# Later versions may have more behind; what we know of them stands in the same places.
_VALUE = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII
)
_VALUE_CHARACTERS_MAX = 256


class TraceContext(NamedTuple):
    """Which trace, which part of it, and whether its parts are recorded."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    sampled: bool = False

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"

    def child(self) -> TraceContext:
        """Another part of the same trace."""
        return self._replace(span_id=_hexadecimal(8))


current_trace: ContextVar[TraceContext | None] = ContextVar("current_trace", default=None)
"""Of the request that is being answered."""


def new_trace() -> TraceContext:
    """A trace that begins here, and is not recorded."""
    return TraceContext(_hexadecimal(16), _hexadecimal(8))


def _hexadecimal(size: int) -> str:
    # Names, not secrets; and to ask the kernel would let another thread run first, with each request.
    return f"{random.getrandbits(8 * size) or 1:0{2 * size}x}"


def read_traceparent(value: object) -> TraceContext | None:
    """What a ``traceparent`` says, as text or as ASCII bytes; None where it is none, for nobody is refused for it."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if not isinstance(value, str) or len(value) > _VALUE_CHARACTERS_MAX:
        return None
    found = _VALUE.fullmatch(value)
    if found is None or (found[1] == "00" and found[5] is not None):
        return None
    return TraceContext(found[2], found[3], bool(int(found[4], 16) & _SAMPLED))


def trace_in(headers: Iterable[tuple[str, bytes | None]] | None) -> TraceContext | None:
    """The trace that a Kafka record's headers name."""
    for name, value in headers or ():
        if name == TRACEPARENT:
            return read_traceparent(value)
    return None
