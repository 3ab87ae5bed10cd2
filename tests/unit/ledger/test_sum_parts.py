"""A time is cut into parts that meet end to end, each where its roll-up has whole periods."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.books.roll_ups import ROLL_UPS
from services.ledger.sum_parts import Part, Window, joined, parts, serving

_START = datetime(2025, 11, 1, tzinfo=UTC)
_TIMES = st.none() | st.timedeltas(timedelta(0), timedelta(days=150)).map(lambda after: _START + after)
_HOURS = st.none() | st.integers(0, 3_600).map(lambda hours: _START + timedelta(hours=hours))
_COLUMNS = sorted({name for one in ROLL_UPS for name in one.columns})


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-{text}:00Z")


def test_months_days_hours_and_entries() -> None:
    roll_ups = serving({"org_id", "user_id"}, ("hour", "day", "month"))
    cut = parts(Window(at("01-30T22:15"), at("04-01T02:30")), roll_ups)
    assert [(part.window.end, part.roll_up and part.roll_up.view) for part in cut] == [
        (at("01-30T23:00"), None),
        (at("01-31T00:00"), "hourly_user_sums"),
        (at("02-01T00:00"), "daily_user_sums"),
        (at("04-01T00:00"), "monthly_user_sums"),
        (at("04-01T02:00"), "hourly_user_sums"),
        (at("04-01T02:30"), None),
    ]


def test_what_no_roll_up_knows_is_of_the_entries() -> None:
    window = Window(None, at("04-01T00:00"))
    assert parts(window, serving({"org_id", "run_id"}, ("hour", "day", "month"))) == [Part(window, None)]


def test_a_time_in_which_nothing_lies_is_one_part() -> None:
    window = Window(at("04-01T00:00"), at("03-01T00:00"))
    assert parts(window, serving({"org_id"}, ("hour", "day"))) == [Part(window, None)]


@given(start=_TIMES | _HOURS, end=_TIMES | _HOURS, names=st.sets(st.sampled_from(_COLUMNS), max_size=3))
def test_parts_meet_end_to_end_and_are_whole_periods(
    start: datetime | None, end: datetime | None, names: set[str]
) -> None:
    cut = parts(Window(start, end), serving(names, ("hour", "day", "month")))
    assert (cut[0].window.start, cut[-1].window.end) == (start, end)
    assert all(one.window.end == other.window.start for one, other in pairwise(cut))
    for part in cut:
        assert part.roll_up is None or names <= set(part.roll_up.columns)
        for edge in part.window:
            if edge is None or part.roll_up is None:
                continue
            assert edge.time().replace(hour=0) == datetime.min.time()
            assert part.roll_up.period == "hour" or edge.hour == 0
            assert part.roll_up.period != "month" or edge.day == 1


def test_windows_that_meet_are_one() -> None:
    hours = [at(f"02-01T{hour:02}:00") for hour in (1, 2, 3, 5)]
    hour = timedelta(hours=1)
    assert joined(Window(one, one + hour) for one in hours) == [
        Window(hours[0], hours[2] + hour),
        Window(hours[3], hours[3] + hour),
    ]
