"""The price of a receipt, unit by unit, as the rate card has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from services.console.apis import Json
from services.console.entry_words import UNITS

_MILLION = 1_000_000


class Line(NamedTuple):
    """So many of a unit, and what the card says of its price."""

    unit: str
    number: int
    price: str
    own_key: str
    """With an own key; empty where that changes nothing, or is told for all lines at once."""


def price_lines(event: Json, card: Json) -> list[Line]:
    """The lines of what was booked; ``event`` is an entry that is no reversal, ``card`` the receipt's ``rate_card``."""
    return list(_lines(event, card))


def _lines(event: Json, card: Json) -> Iterable[Line]:
    count = int(event["quantity"])
    match event["event_type"]:
        case "usage.node_call.v1":
            price, own = _credits(card["tier_credits"]), _credits(card["own_key_node_call_credits"])
            yield Line(f"calls, tier {card['tier']}", count, price, own)
        case "usage.token_usage.v1":
            cached = event["cached_input_tokens"]
            counts = (event["input_tokens"] - cached, cached, event["output_tokens"])
            names = (("input", "input"), ("cache_read", "cached_input"), ("output", "output"))
            for (unit, place), number in zip(names, counts, strict=True):
                if number:
                    yield Line(UNITS[unit], number, _usd(card[f"{place}_usd_per_mtok"], _MILLION), "")
        case "usage.token_usage.v2":
            for line in card["lines"]:
                yield Line(UNITS.get(line["unit"], line["unit"]), line["count"], _usd(line["usd"], line["per"]), "")
        case "usage.tool_call.v1":
            yield Line(UNITS["calls"], count, _credits(card["tool_call_credits"]), "")
        case "usage.workflow_run.v1":
            yield Line(UNITS["runs"], count, _credits(card["workflow_run_credits"]), "")


def _credits(number: str) -> str:
    return f"{number} credit{'' if number == '1' else 's'}"


def _usd(usd: str, per: int) -> str:
    return f"{usd} USD per {per:,}"


def card_terms(card: Json) -> list[str]:
    """What else the card said that changed the price, in sentences."""
    said = []
    if card.get("band_above_input_tokens") is not None:
        said.append(f"Prices for requests of more than {card['band_above_input_tokens']:,} input tokens.")
    if card.get("window_utc"):
        said.append(f"Prices of the hours {', '.join(card['window_utc'])} UTC.")
    if card.get("variant"):
        said.append(f"Prices where {_conditions(card['variant'])}.")
    said += [f"Times {each['times']} where {_conditions(each['when'])}." for each in card.get("uplifts", ())]
    if "own_key_token_factor" in card:
        said.append(
            f"One credit is {card['usd_per_credit']} USD; with an own key"
            f" {card['own_key_token_factor']} of it is charged."
        )
    return said


def _conditions(when: Json) -> str:
    return " and ".join(f"{name} is {value}" for name, value in when.items())
