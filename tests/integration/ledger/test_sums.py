"""A summary is the sums of the entries up to its position: whoever asks, whatever is grouped by, in whichever zone."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from services.books.columns import SUMMED
from services.books.roll_ups import ROLL_UPS, SUMS
from services.domain.permissions import Sight
from services.ledger.access import Visible
from services.ledger.query import Selection, SummaryQuery
from tests.integration.summed import ZONES, Question, Rolled, a_question

_chances = st.integers(0, 2**32).map(Random)


@pytest.fixture(scope="module")
def rolled(stack: Any) -> Iterator[Rolled]:
    with stack.postgres.connect() as admin:
        admin.execute("CREATE DATABASE rolled TEMPLATE ledger OWNER ledger_owner")
    yield Rolled(stack.dsn("ledger_owner", "rolled"), stack.dsn("ledger_service", "rolled"))
    with stack.postgres.connect() as admin:
        admin.execute("DROP DATABASE rolled WITH (FORCE)")


@pytest.fixture(scope="module")
def rolled_clocks(rolled: Rolled) -> Rolled:
    """With entries around every change of clocks."""
    rolled.book_around_clock_changes()
    while rolled.place(1_000):
        pass
    return rolled


# Entries stay there for those that follow, so nothing is gained by trying smaller ones.
@settings(max_examples=40, deadline=None, phases=[Phase.generate])
@given(chance=_chances, most=st.integers(1, 30), asked=st.lists(_chances.map(a_question), min_size=4, max_size=8))
def test_a_summary_is_the_sums_of_the_entries_up_to_its_position(
    rolled: Rolled, chance: Random, most: int, asked: list[Question]
) -> None:
    rolled.book(chance)
    rolled.place(most)
    for question in asked:
        rolled.check(question)


@pytest.mark.parametrize("tz", ZONES)
def test_around_a_change_of_clocks_an_hour_is_that_of_its_entries(rolled_clocks: Rolled, tz: str) -> None:
    """Also where they change by half an hour, or within one: hours are told apart by their names, offset and all."""
    everything = Selection("acme", SummaryQuery(), Visible(everything=True), Sight(True, True, (), None))  # noqa: FBT003
    for groups in (["hour"], ["day"], ["hour", "day", "provider"], ["month", "run_id"]):
        rolled_clocks.check((everything, groups, tz))


def test_every_roll_up_is_the_sums_of_the_feed(rolled: Rolled) -> None:
    rolled.book(Random(1))  # noqa: S311 - a seed that repeats is what is wanted
    while rolled.place(10):
        pass
    for roll_up in ROLL_UPS:
        keys = ", ".join((*roll_up.columns, roll_up.period))
        sums = ", ".join(f"sum({name})" for name in SUMMED)
        begin = f"date_trunc('{roll_up.period}', occurred_at AT TIME ZONE 'UTC')"
        typed = f"{begin} AT TIME ZONE 'UTC'" if roll_up.period == "hour" else f"({begin})::date"
        raw = (
            f"SELECT {keys}, sum(CASE kind WHEN 'reversal' THEN -1 ELSE 1 END), {sums}"
            f" FROM (SELECT *, {typed} AS {roll_up.period} FROM ledger.entry_feed) AS entry GROUP BY {keys}"
        )
        rolled_up = f"SELECT {keys}, {', '.join(SUMS)} FROM ledger.{roll_up.view}"
        for one, other in ((raw, rolled_up), (rolled_up, raw)):
            assert rolled.rows(f"{one} EXCEPT ALL {other}") == [], roll_up.view
