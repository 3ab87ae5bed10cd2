"""What a page was asked for, and the geometry of its chart."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.console.charts import Amount, savings_chart
from services.console.filters import UnusableFormError, asked_of
from services.console.pages.savings import without_gaps


@given(st.lists(st.tuples(st.integers(-(10**15), 10**15), st.integers(-(10**15), 10**15)), max_size=100))
def test_bars_stay_inside_the_chart_and_stand_on_each_other(pairs):
    amounts = [Amount(f"p{n}", charged + saved, charged, saved) for n, (charged, saved) in enumerate(pairs)]
    chart = savings_chart([amount for amount in amounts if amount.charged_mc >= 0 and amount.saved_mc >= 0])
    for bar in chart.bars:
        assert chart.left <= bar.x
        assert bar.x + bar.width <= chart.right + 0.01
        assert 0 <= bar.saved_y <= bar.charged_y <= chart.baseline
        assert bar.charged_height + bar.saved_height <= chart.baseline + 0.02
    assert sum(bool(bar.label) for bar in chart.bars) <= 12
    # Negative sums draw nothing below the line.
    assert all(bar.charged_height >= 0 for bar in savings_chart(amounts).bars)


def test_the_scale_reads_well():
    lines = savings_chart([Amount("d", 37_000_000, 37_000_000, 0)]).lines
    assert [line.label for line in lines] == ["0", "12.5", "25", "37.5", "50"]


def test_the_form_shows_thirty_days_unless_asked_otherwise():
    today = date(2026, 5, 31)
    assert asked_of({}, today).query() == {"from": "2026-05-02T00:00:00Z"}
    assert asked_of({"all": "1"}, today).query() == {}
    assert asked_of({"all": "1", "from": "2026-05-01", "to": "2026-05-02"}, today).query() == {}
    asked = asked_of({"from": "2026-05-01", "to": "2026-05-01", "provider": " openai "}, today)
    bounds = {"from": "2026-05-01T00:00:00Z", "to": "2026-05-02T00:00:00Z"}
    assert asked.query() == bounds | {"provider": "openai"}
    assert (asked.texts, asked.daily) == ({"provider": "openai"}, True)
    assert asked_of({name: value for name, value in asked.fields().items() if value}, today) == asked
    assert not asked_of({"from": "2026-01-01", "to": "2026-05-01"}, today).daily
    with pytest.raises(UnusableFormError, match="from"):
        asked_of({"from": "31.5.2026"}, today)


def test_periods_without_use_are_there_with_0():
    def periods(amounts, query, today=date(2026, 5, 31)):
        listed = [Amount(period, 5, 5, 0) for period in amounts]
        filled = without_gaps(listed, asked_of(query, today))
        assert [amount for amount in filled if amount.list_mc] == listed
        return [amount.period for amount in filled]

    assert periods([], {"from": "2026-05-01"}) == []
    days = periods(["2026-05-02"], {"from": "2026-05-01", "to": "2026-05-03"})
    assert days == ["2026-05-01", "2026-05-02", "2026-05-03"]
    # A runner's clock may be ahead.
    assert periods(["2026-06-01"], {"from": "2026-05-31"}) == ["2026-05-31", "2026-06-01"]
    assert periods(["2025-11", "2026-02"], {"all": "1"}) == ["2025-11", "2025-12", "2026-01", "2026-02"]
    assert len(periods(["2026-05-31"], {})) == 30
