"""The report: 80 columns, readable without colour, exact in its sums."""

from __future__ import annotations

import io
from datetime import date

from rich.console import Console

from services.cli.demo import report
from services.cli.demo.figures import Day, Money, Progress


class Paper:
    """A console of 80 columns, and what is on it."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self._bytes = io.BytesIO()
        self._encoding = encoding
        self.console = Console(file=io.TextIOWrapper(self._bytes, encoding, write_through=True), width=80)

    @property
    def lines(self) -> list[str]:
        return self._bytes.getvalue().decode(self._encoding).splitlines()


DAYS = [Day(date(2026, 11, 1), 100_000_000_000, 40_000_000_000), Day(date(2026, 11, 2), 50_000_000_000, 0)]


def test_the_chart_shows_what_of_the_list_price_was_charged() -> None:
    paper = Paper()
    report.chart(paper.console, DAYS)
    _, first, second = paper.lines
    assert (first.count("█"), first.count("░")) == (16, 24)
    assert (second.count("█"), second.count("░")) == (0, 20)
    assert "100,000.00" in first
    assert all(len(line) <= 80 for line in paper.lines)


def test_the_chart_needs_no_more_than_ascii() -> None:
    paper = Paper("ascii")
    report.chart(paper.console, DAYS)
    assert (paper.lines[1].count("#"), paper.lines[1].count(".") - 2) == (16, 24)


def test_an_empty_ledger_has_an_empty_chart() -> None:
    report.chart(Paper().console, [Day(date(2026, 11, 1), 0, 0)])


def test_a_table_ends_with_its_sum_and_nothing_saved_of_nothing_is_no_share() -> None:
    paper = Paper()
    rows = [Money(("a", "free"), 2, 3_000_000, 1_000_000, 2_000_000), Money(("b", "pro"), 1, 0, 0, 0)]
    report.money_table(paper.console, ("organization", "plan"), rows)
    text = [line.split() for line in paper.lines]
    assert ["a", "free", "2", "3.00", "1.00", "2.00", "66.7"] in text
    assert ["b", "pro", "1", "0.00", "0.00", "0.00", "–"] in text
    assert ["all", "3", "3.00", "1.00", "2.00", "66.7"] in text


def test_fates_and_verdict_are_sentences() -> None:
    paper = Paper()
    report.fates(paper.console, Progress(6, 3, 2, 1), [("invalid_event", 1, 1, "data.x: is [wrong]")])
    report.verdict(paper.console, 3, [f"{number} differs" for number in range(12)])
    text = "\n".join(paper.lines)
    assert "6 sent = 3 recorded + 2 duplicates + 1 dead letters" in text
    assert "12 differences" in text
    assert "… and 2 more" in text
