"""How all of the programs price: by the keys that there are now. Exact for what comes in time, and in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from rivals.programs.begun import say_begun


class Row(NamedTuple):
    """What is written of an event; amounts in mc."""

    event_id: str
    org_id: str
    charged_mc: int
    saved_mc: int


def events_of(value: Any) -> list[dict[str, Any]]:
    """The events of a record, which holds one or many."""
    say_begun()
    events: list[dict[str, Any]] = value if isinstance(value, list) else [value]
    return events


def key_of(event: dict[str, Any]) -> str:
    """By which the key that applies is looked up."""
    data = event["data"]
    return f"{data['org_id']}/{data['team_id']}/{data['provider']}"


class Prices:
    """What calls and tokens cost, in mc."""

    def __init__(self, file: Path) -> None:
        """``file``: as ``rivals/prices.py`` writes it."""
        card = json.loads(file.read_text())
        self._own_key_call: int = card["own_key_call"]
        self._factor: int
        self._divisor: int
        self._factor, self._divisor = card["own_key_token_factor"]
        self._models: dict[str, dict[str, int]] = card["models"]

    def charge(self, event: dict[str, Any], *, own_key: bool) -> Row:
        """What an event costs, ``own_key`` or not."""
        data = event["data"]
        price = self._models[f"{data['provider']}/{data['model']}"]
        if event["type"] == "usage.node_call.v1":
            calls = data.get("calls", 1)
            list_mc, own_mc = price["call"] * calls, self._own_key_call * calls
        else:
            cached = data.get("cached_input_tokens", 0)
            fresh = data["input_tokens"] - cached
            list_mc = fresh * price["input"] + cached * price["cached"] + data["output_tokens"] * price["output"]
            own_mc = _half_even(list_mc * self._factor, self._divisor)
        charged_mc = own_mc if own_key else list_mc
        return Row(event["id"], data["org_id"], charged_mc, list_mc - charged_mc)


def _half_even(numerator: int, denominator: int) -> int:
    whole, rest = divmod(numerator, denominator)
    return whole + int(2 * rest + whole % 2 > denominator)
