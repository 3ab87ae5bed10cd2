"""Usage events as they are sent: CloudEvents 1.0 in structured JSON (docs/contract.md, section 3).

An event is made into bytes once, here. These bytes are what is kept and what is sent, however often.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from byok_sdk.errors import InvalidEventError

NODE_CALL = "usage.node_call.v1"
TOKEN_USAGE = "usage.token_usage.v2"  # noqa: S105 - tokens of a model, not of a login
TOOL_CALL = "usage.tool_call.v1"
WORKFLOW_RUN = "usage.workflow_run.v1"

EVENT_BYTES_MAX = 64 * 1024
"""Far more than any event of ours has."""

_ID_BYTES_MAX = 128
_EVENT_ID_BYTES_MAX = 256
_CALLS_MAX = 10**6
_COUNT_MAX = 10**10
_UNITS_MAX = 64
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LONGER_IDS = ("provider_request_id",)
_NO_IDS = ("usage", "conditions", "credential", "calls", "succeeded", "usage_status", "provider_cost_usd")
_USD = re.compile(r"[0-9]{1,12}(\.[0-9]{1,18})?", re.ASCII)


class Whose(NamedTuple):
    """For whom an act is done."""

    org_id: str
    user_id: str
    team_id: str | None = None
    """None: the user's personal space."""
    run_id: str | None = None

    def data(self) -> dict[str, str]:
        """The fields that every event has."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def utc_now() -> datetime:
    """The time, for whoever begins an act."""
    return datetime.now(timezone.utc)


def utc_text(at: datetime) -> str:
    """RFC 3339 in UTC, with microseconds. Raises InvalidEventError for a time without a zone."""
    if at.tzinfo is None:
        raise InvalidEventError("time must have a time zone")
    return at.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def event_bytes(event_type: str, event_id: str, source: str, at: datetime, data: Mapping[str, Any]) -> bytes:
    """The event as it is kept and sent; the same arguments are always the same bytes. None in ``data`` is left out.

    Raises InvalidEventError that names the field: what the ledger would refuse for ever is refused here, before it is
    recorded.
    """
    told = {name: value for name, value in data.items() if value is not None}
    check_id("id", event_id, _EVENT_ID_BYTES_MAX)
    check_id("source", source, _EVENT_ID_BYTES_MAX)
    for name, value in told.items():
        if name not in _NO_IDS:
            check_id(name, value, _EVENT_ID_BYTES_MAX if name in _LONGER_IDS else _ID_BYTES_MAX)
    _check_numbers(told)
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": event_type,
        "time": utc_text(at),
        "data": told,
    }
    body = json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    if len(body) > EVENT_BYTES_MAX:
        raise InvalidEventError(f"an event has at most {EVENT_BYTES_MAX} bytes, and this has {len(body)}")
    return body


def check_id(name: str, value: object, bytes_max: int = _ID_BYTES_MAX) -> None:
    """Raise InvalidEventError unless ``value`` is an id (docs/contract.md, Values)."""
    if not isinstance(value, str) or not value or _CONTROL.search(value):
        raise InvalidEventError(f"{name} must be a string without control characters, and not empty")
    if name == "org_id" and value == "*":
        raise InvalidEventError("org_id must be one organization")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidEventError(f"{name} must be Unicode text") from None
    if size > bytes_max:
        raise InvalidEventError(f"{name} must have at most {bytes_max} bytes of UTF-8")


def is_id(value: object) -> bool:
    """Whether ``value`` is an id."""
    try:
        check_id("", value)
    except InvalidEventError:
        return False
    return True


def _check_numbers(data: Mapping[str, Any]) -> None:
    if "calls" in data and not (is_count(data["calls"]) and 1 <= data["calls"] <= _CALLS_MAX):
        raise InvalidEventError(f"calls must be an integer from 1 to {_CALLS_MAX}")
    if "provider_cost_usd" in data and not _USD.fullmatch(data["provider_cost_usd"]):
        raise InvalidEventError("provider_cost_usd must be a plain decimal with at most 18 places")
    if "usage" in data:
        _check_usage(data["usage"])
    for name, value in data.get("conditions", {}).items():
        check_id("conditions", name)
        check_id(f"conditions.{name}", value)


def _check_usage(usage: Mapping[str, Any]) -> None:
    if not 1 <= len(usage) <= _UNITS_MAX:
        raise InvalidEventError(f"usage must count 1 to {_UNITS_MAX} units")
    for unit, count in usage.items():
        check_id("usage", unit)
        if not is_count(count) or not 0 <= count <= _COUNT_MAX:
            raise InvalidEventError(f"usage.{unit} must be an integer from 0 to {_COUNT_MAX}")


def is_count(value: object) -> bool:
    """Whether it is an integer, and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)
