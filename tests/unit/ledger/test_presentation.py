"""What people read: files, percentages and explanations."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.explanation import usd, utc
from services.ledger.export import csv_lines, defused
from services.ledger.handlers import saved_percent


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
    "text", ["", " ", "\u200b", "a=1", " a=1", "\ufeffa", "1-1", "\u00fc=", "\u8a9e\uff1d", "\u2013x"]
)
def test_other_text_is_left_alone(text):
    assert read_cell(text) == text


@given(st.one_of(st.text(), st.text(alphabet="'=+-@\t\r\n \uff1d\u200bx1")))
def test_one_apostrophe_less_is_what_it_was(text):
    cell = defused(text)
    assert (cell[1:] if cell.startswith("'") else cell) == text


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
