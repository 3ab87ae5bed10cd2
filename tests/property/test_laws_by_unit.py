"""Laws of what a request costs by unit, for arbitrary counts, conditions and times."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from services.domain.model_prices import ImpossibleUsageError, UnpricedConditionError, UnpricedError, bill, cost
from services.domain.rating import rate
from services.domain.usage import tokens_in
from tests.factories import (
    card,
    card_2,
    card_body_2,
    credential,
    directory,
    model_line,
    plan,
    request_usage,
    token_usage,
)
from tests.strategies import instants

_UNIT_COUNTS = st.sampled_from((0, 1, 2, 3, 7, 999, 1_000, 1_001, 5_000, 5_001, 10**10))
_CONDITIONS = st.dictionaries(
    st.sampled_from(("processing", "service_tier", "region", "speed")),
    st.sampled_from(("batch", "fast", "default", "us", "flex")),
    max_size=3,
)
_PLAIN = card_2(
    models={
        "openai": {
            "large": card_body_2()["models"]["openai"]["large"]
            | {name: [] for name in ("bands", "windows", "variants", "uplifts")}
        }
    }
)


@st.composite
def usages(draw):
    """Counts of every unit of the small card of schema 2: parts that fit into their wholes together."""
    cached, written, rest, reasoning, more, searches = (draw(_UNIT_COUNTS) for _ in range(6))
    return {
        "input": cached + written + rest,
        "cache_read": cached,
        "cache_write": written,
        "output": reasoning + more,
        "reasoning": reasoning,
        "web_search": searches,
    }


def billed(usage, conditions, at, rate_card):
    price = rate_card.models["openai", "large"]
    try:
        return bill(tuple(sorted(usage.items())), tuple(sorted(conditions.items())), at, price, rate_card.units)
    except UnpricedConditionError:
        reject()


@settings(max_examples=300)
@given(usages(), _CONDITIONS, instants())
def test_a_bill_is_the_sum_of_its_lines_and_each_token_stands_in_exactly_one(usage, conditions, at):
    found = billed(usage, conditions, at, card_2())
    counted = {line.unit: line.quantity for line in found.lines}
    assert sum(count for unit, count in counted.items() if unit != "web_search") == usage["input"] + usage["output"]
    times = Fraction(1)
    for uplift in found.uplifts:
        times *= Fraction(*uplift.times)
    total = sum(line.quantity * line.price * (times if line.is_tokens else 1) for line in found.lines)
    assert Fraction(*found.cost) == total


_WITHOUT_TIMES = card_2(
    models={"openai": {"large": card_body_2()["models"]["openai"]["large"] | {"bands": [], "windows": []}}}
)


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(("input", "cache_read", "cache_write", "output", "images", "web_search")), _UNIT_COUNTS
    ),
    st.just({}) | _CONDITIONS,
    instants(),
    st.sampled_from((card_2(), _PLAIN, _WITHOUT_TIMES)),
)
def test_what_it_costs_is_the_same_with_a_bill_and_without(usage, conditions, at, rate_card):
    def found(ask):
        price = rate_card.models["openai", "large"]
        try:
            asked = ask(tuple(sorted(usage.items())), tuple(sorted(conditions.items())), at, price, rate_card.units)
        except UnpricedError as error:
            return type(error), str(error)
        return Fraction(*asked)

    assert found(cost) == found(lambda *of: bill(*of).cost)


@given(usages(), _CONDITIONS, instants(), st.sampled_from(("input", "output", "web_search")), _UNIT_COUNTS)
def test_more_never_costs_less_within_a_band(usage, conditions, at, unit, more):
    before = billed(usage, conditions, at, card_2())
    after = billed(usage | {unit: usage[unit] + more}, conditions, at, card_2())
    assume(before.band == after.band)
    assert Fraction(*before.cost) <= Fraction(*after.cost)


@given(usages(), instants())
def test_without_bands_windows_variants_and_uplifts_schema_2_is_schema_1(usage, at):
    three = {"input": usage["input"], "cache_read": usage["cache_read"], "output": usage["output"]}
    by_unit = request_usage(three, model="large", occurred_at=at)
    first = card(models={"openai": {"large": model_line("expert", "15", "1.5", "60")}})
    assert outcome_of(by_unit, _PLAIN) == outcome_of(by_unit, first)
    v1 = token_usage(model="large", occurred_at=at, **tokens_in(dict(by_unit.usage)))
    assert outcome_of(v1, _PLAIN) == outcome_of(v1, first) == outcome_of(by_unit, _PLAIN)


def outcome_of(event, rate_card):
    try:
        return rate(event, directory(plan("pro"), credential(), cards=(rate_card,))).amounts
    except UnpricedError as error:
        return type(error)


@given(st.dictionaries(st.sampled_from(tuple(card_2().units.by_name)), _UNIT_COUNTS, min_size=1))
def test_parts_never_exceed_their_whole_in_what_is_priced(usage):
    try:
        rate(request_usage(usage, model="large"), directory(cards=(card_2(),)))
    except ImpossibleUsageError:
        return
    except UnpricedError:
        pass
    units = card_2().units.by_name
    for name, count in usage.items():
        assert units[name].within is None or count <= usage.get(units[name].within, 0)
