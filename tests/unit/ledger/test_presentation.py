"""What people read: files, charts, percentages and explanations."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.permissions import Caller
from services.ledger.console.charts import Amount, savings_chart
from services.ledger.console.savings import UnusableFormError, read_form, without_gaps
from services.ledger.explanation import usd, utc
from services.ledger.export import csv_lines
from services.ledger.handlers import saved_percent

PERSON = Caller("ann", "acme", "admin", {}, frozenset())


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("a=b", "a=b"),
        (-5, "-5"),
        (None, ""),
        (["a", "b"], "a;b"),
        ("a,b", '"a,b"'),
        ('a"b', '"a""b"'),
        (datetime(2026, 5, 1, 12, 0, 0, 5, tzinfo=UTC), "2026-05-01T12:00:00.000005Z"),
    ],
)
def test_csv_cells(value, cell):
    assert b"".join(csv_lines([[value, 7]])).decode().split("\r\n")[1] == f"{cell},7"


# Without a width, a direction's mark, white space, a combining mark, controls.
_UNSEEN = "200b 200c 200d 200e 200f 2060 feff a0 ad 3000 2028 202e 34f 0 b 1f"
UNSEEN = tuple(chr(int(code, 16)) for code in _UNSEEN.split())
FORMULAS = (
    "=1+1",
    "+1",
    "-1",
    "@x",
    "\uff1d1+1",
    "\uff0b1",
    "\uff0d1",
    "\uff20x",
    "\ufe661",
    "\ufe621",
    "\ufe631",
    "\ufe6bx",
)


@pytest.mark.parametrize("before", ["", " ", *UNSEEN, "\t", "\r", "\n", "\ufeff \u200b\t"])
@pytest.mark.parametrize("formula", FORMULAS)
def test_no_cell_is_a_formula_whatever_stands_before_it(before, formula):
    assert read_cell(before + formula) == f"'{before}{formula}"


@pytest.mark.parametrize("text", ["\tx", "\rx", "\nx"])
def test_what_ends_a_cell_begins_none(text):
    assert read_cell(text) == f"'{text}"


@pytest.mark.parametrize(
    "text", ["", " ", "\u200b", "a=1", " a=1", "\ufeffa", "1-1", "\u00fc=", "\u8a9e\uff1d", "\u2013x", "'=1"]
)
def test_other_text_is_left_alone(text):
    assert read_cell(text) == text


@pytest.mark.parametrize("number", [-1, -(10**30), 0])
def test_negative_numbers_stay_numbers(number):
    assert read_cell(number) == str(number)


def read_cell(value):
    file = b"".join(csv_lines([[value, 7]])).decode()
    return list(csv.reader(io.StringIO(file, newline="")))[1][0]


@pytest.mark.parametrize(
    ("list_mc", "saved_mc", "percent"),
    [
        (0, 0, None),
        (3, 1, "33.33"),
        (3, 2, "66.67"),
        (800, 1, "0.12"),
        (10**30, 10**30, "100.00"),
        (7, 0, "0.00"),
        (-300, -100, "33.33"),
        (200, -1, "-0.50"),
        (8 * 10**40, 10**40 + 1, "12.50"),
        (2 * 10**34, 10**30 + 1, "0.01"),
    ],
)
def test_percentages_are_exact_and_rounded_once(list_mc, saved_mc, percent):
    assert saved_percent(list_mc, saved_mc) == percent


def test_small_units():
    assert usd(5_000) == "0.005"
    assert usd(3_000_000) == "3"
    assert utc(datetime(2026, 5, 1, tzinfo=UTC)) == "2026-05-01T00:00:00Z"


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
    assert read_form({}, PERSON, today).bounds() == {"from": "2026-05-02T00:00:00Z"}
    assert read_form({"all": "1"}, PERSON, today).bounds() == {}
    assert read_form({"all": "1", "from": "2026-05-01", "to": "2026-05-02"}, PERSON, today).bounds() == {}
    asked = read_form({"from": "2026-05-01", "to": "2026-05-01", "provider": " openai "}, PERSON, today)
    assert asked.bounds() == {"from": "2026-05-01T00:00:00Z", "to": "2026-05-02T00:00:00Z"}
    assert (asked.org_id, asked.filters, asked.daily) == ("acme", {"provider": "openai"}, True)
    assert not read_form({"from": "2026-01-01", "to": "2026-05-01"}, PERSON, today).daily
    with pytest.raises(UnusableFormError, match="from"):
        read_form({"from": "31.5.2026"}, PERSON, today)


def test_periods_without_use_are_there_with_0():
    def periods(amounts, query, today=date(2026, 5, 31)):
        listed = [Amount(period, 5, 5, 0) for period in amounts]
        filled = without_gaps(listed, read_form(query, PERSON, today))
        assert [amount for amount in filled if amount.list_mc] == listed
        return [amount.period for amount in filled]

    assert periods([], {"from": "2026-05-01"}) == []
    days = periods(["2026-05-02"], {"from": "2026-05-01", "to": "2026-05-03"})
    assert days == ["2026-05-01", "2026-05-02", "2026-05-03"]
    # A runner's clock may be ahead.
    assert periods(["2026-06-01"], {"from": "2026-05-31"}) == ["2026-05-31", "2026-06-01"]
    assert periods(["2025-11", "2026-02"], {"all": "1"}) == ["2025-11", "2025-12", "2026-01", "2026-02"]
    assert len(periods(["2026-05-31"], {})) == 30
