"""What the demo shows: tables, a chart and one receipt, readable in 80 columns and without colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli.demo.figures import Day, Money, Progress
from services.cli.receipt import receipt_lines, show_lines
from services.domain.credits import format_credits_roughly

_WIDTH = 80
_BAR_CELLS = 40
_DIFFERENCES_SHOWN = 10


def report_console() -> Console:
    """Where the report goes: standard output, 80 columns wide wherever it is shown."""
    return Console(width=_WIDTH, highlight=False, markup=False, emoji=False)


def heading(console: Console, text: str) -> None:
    """A line that begins a part of the report."""
    console.print()
    console.print(Text(text, style="bold"))


def money_table(console: Console, headings: Sequence[str], rows: Iterable[Money], *, total: bool = True) -> None:
    """List, charged, saved and the share saved, a line for each row, and their sum."""
    table = _table(*headings)
    for name in ("events", "list", "charged", "saved", "saved %"):
        table.add_column(name, justify="right")
    lines = list(rows)
    for row in lines:
        table.add_row(*row.label, *_amounts(row))
    if total:
        sums = (sum(values) for values in zip(*((row[1:]) for row in lines), strict=True))
        table.add_section()
        table.add_row("all", *[""] * (len(headings) - 1), *_amounts(Money(("all",), *sums)))
    console.print(table)


def _amounts(row: Money) -> tuple[str, ...]:
    share = f"{100 * row.saved_mc / row.list_mc:.1f}" if row.list_mc else "–"
    return (f"{row.entries:,}", *map(format_credits_roughly, (row.list_mc, row.charged_mc, row.saved_mc)), share)


def chart(console: Console, days: Sequence[Day]) -> None:
    """One bar a day: its whole length is the list price, of which the full part was charged."""
    most = max((day.list_mc for day in days), default=0)
    full, saved = ("█", "░") if _can_print(console, "█░") else ("#", ".")
    console.print(f"{full} charged  {saved} saved; the whole bar is the list price, in credits")
    for day in days:
        length, charged = (round(_BAR_CELLS * mc / most) if most else 0 for mc in (day.list_mc, day.charged_mc))
        bar = full * charged + saved * (length - charged)
        listed, paid = map(format_credits_roughly, (day.list_mc, day.charged_mc))
        console.print(f"{day.day:%b %d %a} {bar:<{_BAR_CELLS}} {listed:>11} {paid:>11}")


def _can_print(console: Console, text: str) -> bool:
    try:
        text.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def fates(console: Console, covered: Progress, letters: Sequence[tuple[str, int, int, str]]) -> None:
    """What became of the events, and why some were refused."""
    console.print(
        f"{covered.events:,} sent = {covered.recorded:,} recorded + {covered.duplicates:,} duplicates"
        f" + {covered.dead_letters:,} dead letters"
    )
    table = _table("dead letters", "", "for example")
    table.columns[1].justify = "right"
    table.columns[2].overflow = "fold"
    for reason, count, masked, detail in letters:
        note = f" (a key in {masked} of them, masked)" if masked else ""
        table.add_row(reason, f"{count:,}", f"{detail}{note}")
    console.print(table)


def receipt(console: Console, answer: dict[str, Any]) -> None:
    """One entry and what it follows from, out of the ledger's own receipt."""
    show_lines(console, receipt_lines(answer))


def verdict(console: Console, entries: int, found: Sequence[str]) -> None:
    """What the demo's own check says."""
    console.print(f"{entries:,} entries re-derived with the pure core: {len(found):,} differences")
    for sentence in found[:_DIFFERENCES_SHOWN]:
        console.print(f"  {sentence}")
    if more := len(found) - _DIFFERENCES_SHOWN:
        console.print(f"  … and {more:,} more") if more > 0 else None


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for name in headings:
        table.add_column(name)
    return table
