"""What stands behind figures: months that are compared, the filters of a row, when keys came, lines of receipts."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.console.breakdowns import BREAKDOWNS, rows_of
from services.console.charts import Amount, savings_chart
from services.console.filters import UnusableFormError, asked_of
from services.console.key_marks import by_period, keys_came
from services.console.months import month_before, month_of, months_up_to, this_against_last
from services.console.times import beginning_of, shown_days

TODAY = date(2026, 5, 31)


@given(st.dates(date(2001, 1, 1), date(2098, 12, 31)))
def test_two_months_are_compared_over_as_many_days(today):
    this, last = this_against_last(today)
    assert this.last - this.first == last.last - last.first
    assert this.first == today.replace(day=1)
    assert month_of(last.first) == month_before(today) == month_of(last.last)
    assert this.last <= today
    # As many as there can be.
    assert this.last == today or last.last == month_before(today).last


def test_months_are_told_by_their_names():
    assert months_up_to(date(2026, 2, 28), 4) == ["2026-02", "2026-01", "2025-12", "2025-11"]
    assert shown_days(date(2026, 5, 1), TODAY) == "1–31 May 2026"
    assert shown_days(TODAY, TODAY) == "31 May 2026"
    assert shown_days(date(2025, 12, 30), date(2026, 1, 2)) == "30 December 2025 – 2 January 2026"


def test_a_day_begins_when_it_does_in_the_readers_zone():
    berlin = ZoneInfo("Europe/Berlin")
    assert beginning_of(date(2026, 3, 29), berlin) == "2026-03-28T23:00:00Z"
    assert beginning_of(date(2026, 3, 30), berlin) == "2026-03-29T22:00:00Z"
    asked = asked_of({"from": "2026-03-29", "to": "2026-03-29"}, TODAY, berlin)
    assert asked.query() == {"from": "2026-03-28T23:00:00Z", "to": "2026-03-29T22:00:00Z"}
    assert asked.sums_by("day")["tz"] == "Europe/Berlin"
    assert "tz" not in asked_of({}, TODAY).sums_by("day")


def test_a_link_asks_for_what_the_row_was_summed_from():
    asked = asked_of({"from": "2026-05-01", "user_id": "ann"}, TODAY)
    groups: list[dict[str, Any]] = [
        {"provider": "openai", "model": "m/1", "list_mc": 1},
        {"provider": None, "model": None, "list_mc": 5},
    ]
    none, one = rows_of(BREAKDOWNS["model"], groups, asked)
    assert (none.name, one.name) == ("no model", "openai/m/1")
    assert one.asked.query() == asked.query() | {"provider": "openai", "model": "m/1"}
    assert none.asked.query() == asked.query() | {"without": "model,provider"}
    for row in (none, one):
        url = urlencode({name: value for name, value in row.asked.fields().items() if value})
        assert asked_of({name: values[0] for name, values in parse_qs(url).items()}, TODAY) == row.asked
        assert row.asked.but("provider", "model", "user_id").texts == {}
    with pytest.raises(UnusableFormError, match="Team"):
        asked_of({"team_id": "red", "without": "team_id,nonsense"}, TODAY)


def key(provider, level, owner, *active):
    return {
        "provider": provider,
        "scope": {"type": level, "id": owner},
        "active": [{"from": begin, "to": end} for begin, end in active],
    }


def test_a_key_is_marked_where_it_came_and_not_where_it_was_rotated():
    rotated = ("2026-05-10T12:00:00Z", "2026-05-12T00:00:00Z"), ("2026-05-12T00:00:00Z", "2026-05-20T00:00:00Z")
    keys = [
        key("openai", "team", "red", *rotated, ("2026-05-25T23:30:00Z", None)),
        key("anthropic", "personal", "ann", ("2026-05-10T01:00:00Z", None)),
    ]
    came = keys_came(keys, ZoneInfo("Europe/Berlin"))
    assert [(one.day, one.what) for one in came] == [
        ("2026-05-10", "key of team red for openai"),
        ("2026-05-10", "personal key of ann for anthropic"),
        ("2026-05-26", "key of team red for openai"),
    ]
    assert list(by_period(came, daily=False)) == ["2026-05"]
    days = [Amount((date(2026, 5, 1) + timedelta(days=n)).isoformat(), 5, 3, 2) for n in range(31)]
    chart = savings_chart(days, by_period(came, daily=True))
    assert [mark.title.partition(":")[0] for mark in chart.marks] == ["2026-05-10", "2026-05-26"]
    for mark, day in zip(chart.marks, (10, 26), strict=True):
        bar = chart.bars[day - 1]
        assert mark.x == pytest.approx(bar.x + bar.width / 2, abs=0.02)
