"""What use of the platform's keys would have cost with a key of the customer's own, from the sums of its entries.

The prices are those of ``rating``. Node calls cost the same each, so their sum is exact. Of tokens an own key costs a
factor of the list price; each entry's amounts were rounded once, so what a sum comes to is right to within these.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

from services.domain.credits import Ratio, round_half_even
from services.domain.rate_card import RateCard
from services.domain.rating import exact_mc, node_call_mc
from services.domain.resolution import KeySource
from services.domain.usage import EventType


class Used(NamedTuple):
    """The sums of entries that one line of a card priced, at what they list at."""

    event_type: EventType
    provider: str
    listed_as: str
    """The name of the model on the card."""
    events: int
    """Events that are booked so in the end; what was taken back is none."""
    quantity: int
    list_mc: int


class WithOwnKey(NamedTuple):
    """What the same would have cost."""

    charged_mc: int
    within_mc: int
    """By no more than this it differs from what the entries come to if each is priced alone."""


def with_own_key(used: Used, card: RateCard) -> WithOwnKey | None:
    """What an own key would have charged by the card; None where the provider takes none."""
    if used.provider not in card.own_key_providers:
        return None
    match used.event_type:
        case EventType.NODE_CALL:
            each = node_call_mc(card, card.models[used.provider, used.listed_as], KeySource.BYOK)
            return WithOwnKey(each.charged_mc * used.quantity, 0)
        case EventType.TOKEN_USAGE | EventType.TOKEN_USAGE_V2:
            cost = Ratio(used.list_mc * card.usd_micros_per_credit, 1)
            _, charged = exact_mc(cost, card, KeySource.BYOK)
            return WithOwnKey(round_half_even(*charged), _roundings(used.events, card.own_key_token_factor))
        case EventType.TOOL_CALL | EventType.WORKFLOW_RUN:
            return WithOwnKey(used.list_mc, 0)
        case _:
            assert_never(used.event_type)


def _roundings(events: int, factor: Ratio) -> int:
    """Half a mc for the charge of each event, the factor of half a mc for its list price; half a mc for the sum."""
    halves = events * (factor.numerator + factor.denominator) + factor.denominator
    return -(-halves // (2 * factor.denominator))
