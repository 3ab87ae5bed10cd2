"""What own keys would have charged, from sums: against the rating of each single event with a key."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from services.domain.rating import rate
from services.domain.resolution import KeySource
from services.domain.usage import EventType
from services.domain.what_if import Used, WithOwnKey, with_own_key
from tests.factories import card, card_2, credential, directory, node_call, plan, request_usage, token_usage

_counts = st.integers(0, 10**7)
_events = st.one_of(
    st.builds(lambda calls: node_call(calls=calls), st.integers(1, 1000)),
    st.builds(
        lambda fresh, cached, out: token_usage(
            input_tokens=fresh + cached, cached_input_tokens=cached, output_tokens=out
        ),
        _counts,
        _counts,
        _counts,
    ),
    st.builds(lambda fresh, out: request_usage({"input": fresh, "output": out}), _counts, _counts),
)


@settings(max_examples=200)
@given(st.lists(_events, min_size=1, max_size=60))
def test_a_key_would_have_charged_what_each_event_alone_comes_to_with_one(events):
    without, with_key = directory(plan(), cards=(card_2(),)), directory(plan(), credential(), cards=(card_2(),))
    groups = defaultdict(list)
    for event in events:
        groups[event.type].append(event)
    for kind, alike in groups.items():
        listed = [rate(event, without) for event in alike]
        alone = [rate(event, with_key) for event in alike]
        assert {rating.resolution.key_source for rating in alone} == {KeySource.BYOK}
        used = Used(
            kind,
            alike[0].provider,
            listed[0].priced_model or alike[0].model,
            len(alike),
            sum(event.quantity for event in alike),
            sum(rating.amounts.list_mc for rating in listed),
        )
        found = with_own_key(used, listed[0].card)
        exact = sum(rating.amounts.charged_mc for rating in alone)
        assert abs(found.charged_mc - exact) <= found.within_mc
        assert (found.within_mc == 0) == (kind is EventType.NODE_CALL)
        assert 0 <= found.charged_mc <= used.list_mc + found.within_mc


def test_nothing_is_said_of_providers_that_take_no_own_keys():
    of = card()._replace(own_key_providers=frozenset())
    assert with_own_key(Used(EventType.NODE_CALL, "openai", "gpt-4.1", 1, 1, 2_000_000), of) is None


def test_what_costs_the_same_whoever_pays_is_left_as_it_is():
    used = Used(EventType.TOOL_CALL, "openai", "", 3, 3, 3_000_000)
    assert with_own_key(used, card()) == WithOwnKey(3_000_000, 0)
