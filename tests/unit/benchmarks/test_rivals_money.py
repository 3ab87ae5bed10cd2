"""How the benchmark beside others tells who is off and by how much, and that their naive prices are ours in time."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import orjson
import pytest
from rivals.judgement import Charged, Verdict, judge
from rivals.prices import write_prices
from rivals.programs.naive import Prices, events_of
from workload import event

from services.domain.directory import Credential, Directory, PlanHistory
from services.domain.rating import rate
from services.domain.scope import Interval, Plan, PlanPeriod, Scope, ScopeType
from services.key_registry.rate_cards import packaged_cards
from services.messages.usage_events import read_event

RIGHT = {"a": 100, "b": 200, "c": 300, "d": 400}


def test_who_is_right_is_off_by_nothing() -> None:
    verdict = judge(RIGHT, [Charged(event_id, 1, mc) for event_id, mc in RIGHT.items()])
    assert verdict == Verdict(events=4, lost=0, doubled=0, wrong=0, off_mc=0, right_mc=1_000)
    assert verdict.error == 0


def test_what_is_lost_doubled_or_wrong_counts_once_and_makes_up_for_nothing_else() -> None:
    written = [Charged("a", 1, 150), Charged("b", 1, 150), Charged("c", 2, 600)]
    verdict = judge(RIGHT, written)
    assert verdict == Verdict(events=4, lost=1, doubled=1, wrong=2, off_mc=50 + 50 + 300 + 400, right_mc=1_000)
    assert verdict.error == Fraction(4, 5)


def test_an_event_that_nobody_sent_is_a_fault_of_the_benchmark() -> None:
    with pytest.raises(ValueError, match="nobody sent, such as e"):
        judge(RIGHT, [Charged("e", 1, 1)])


@pytest.mark.parametrize("own_key", [False, True])
def test_naive_prices_are_right_for_what_comes_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_key: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    newest = max((packaged.parse() for packaged in packaged_cards()), key=lambda card: card.effective_from)
    ever = Interval(datetime(2020, 1, 1, tzinfo=UTC), None)
    directory = Directory()
    directory.apply(1, newest._replace(effective_from=ever.start))
    directory.apply(2, PlanHistory("org", (PlanPeriod(Plan.PRO, ever),)))
    if own_key:
        directory.apply(3, Credential("key", "org", Scope(ScopeType.TEAM, "team"), "openai", (ever,)))
    write_prices(newest, tmp_path / "prices.json")
    prices = Prices(tmp_path / "prices.json")
    events = [event("org", number) for number in range(2_000)]
    for each in events_of(orjson.loads(orjson.dumps(events))):
        right = rate(read_event(each), directory).amounts
        row = prices.charge(each, own_key=own_key and each["data"]["provider"] == "openai")
        assert (row.charged_mc, row.saved_mc) == (right.charged_mc, right.saved_mc)
