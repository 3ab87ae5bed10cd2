"""The geometry of the savings chart: bars of what was charged and what was saved, together what was listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import NamedTuple

from services.domain.credits import format_credits

WIDTH = 960
HEIGHT = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 8, 30, 34
_MARK = 7
_GAP = 0.25
_BAR_WIDTH_MAX = 56.0
_LABELS_MAX = 12
_STEPS = (1, 2, 5, 10)
_LINES = 4


class Amount(NamedTuple):
    """What one period cost, in mc."""

    period: str
    list_mc: int
    charged_mc: int
    saved_mc: int


def every_day(first: date, last: date) -> list[str]:
    """The days from ``first`` to ``last``, both included."""
    return [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]


def every_month(first: str, last: str) -> list[str]:
    """The months from ``first`` to ``last`` (``2026-11``), both included."""
    begin, end = (int(month[:4]) * 12 + int(month[5:]) - 1 for month in (first, last))
    return [f"{number // 12:04}-{number % 12 + 1:02}" for number in range(begin, end + 1)]


class Bar(NamedTuple):
    """One period: two boxes on top of each other. Lengths are those of the SVG's view box."""

    x: float
    width: float
    charged_y: float
    charged_height: float
    saved_y: float
    saved_height: float
    label: str
    """Under the bar; empty where there is no room for one."""
    title: str


class Mark(NamedTuple):
    """Where a key came: a line from the top to the base, and a triangle at its head."""

    x: float
    top: float
    triangle: str
    title: str


class Line(NamedTuple):
    """One line of the scale."""

    y: float
    label: str


class Chart(NamedTuple):
    """Everything that the template draws."""

    width: int
    height: int
    left: int
    right: int
    baseline: float
    bars: list[Bar]
    lines: list[Line]
    marks: list[Mark]


def savings_chart(amounts: Sequence[Amount], events: Mapping[str, Sequence[str]] | None = None) -> Chart:
    """The chart, with a mark at each period in which something of ``events`` came.

    Periods whose sums are negative (a reversal alone was selected) draw nothing.
    """
    top_mc = _round_up(max((amount.list_mc for amount in amounts), default=0))
    baseline = HEIGHT - _BOTTOM
    scale = (baseline - _TOP) / top_mc
    slot = (WIDTH - _LEFT - _RIGHT) / max(len(amounts), 1)
    every = -(-len(amounts) // _LABELS_MAX) or 1
    bars = [
        _bar(amount, index, slot, scale, baseline, shown=index % every == 0) for index, amount in enumerate(amounts)
    ]
    lines = [_line(top_mc * step // _LINES, scale, baseline) for step in range(_LINES + 1)]
    marks = [
        _mark(_LEFT + slot * (index + 0.5), f"{amount.period}: {'; '.join(came)}")
        for index, amount in enumerate(amounts)
        if (came := (events or {}).get(amount.period))
    ]
    return Chart(WIDTH, HEIGHT, _LEFT, WIDTH - _RIGHT, baseline, bars, lines, marks)


def _bar(amount: Amount, index: int, slot: float, scale: float, baseline: float, *, shown: bool) -> Bar:
    width = min(slot * (1 - _GAP), _BAR_WIDTH_MAX)
    charged, saved = (max(0, mc) * scale for mc in (amount.charged_mc, amount.saved_mc))
    credit = {name: format_credits(getattr(amount, name)) for name in ("list_mc", "charged_mc", "saved_mc")}
    return Bar(
        x=round(_LEFT + slot * index + (slot - width) / 2, 2),
        width=round(width, 2),
        charged_y=round(baseline - charged, 2),
        charged_height=round(charged, 2),
        saved_y=round(baseline - charged - saved, 2),
        saved_height=round(saved, 2),
        label=amount.period if shown else "",
        title=f"{amount.period}: list {credit['list_mc']}, charged {credit['charged_mc']}, saved {credit['saved_mc']}",
    )


def _mark(x: float, title: str) -> Mark:
    top = _TOP - 2 * _MARK
    corners = ((x - _MARK, top), (x + _MARK, top), (x, _TOP - _MARK / 2))
    return Mark(round(x, 2), _TOP - _MARK / 2, " ".join(f"{a:.2f},{b:.2f}" for a, b in corners), title)


def _line(mc: int, scale: float, baseline: float) -> Line:
    return Line(round(baseline - mc * scale, 2), format_credits(mc))


def _round_up(mc: int) -> int:
    """The next number that reads well on a scale: 1, 2 or 5 times a power of ten."""
    if mc <= 0:
        return 1_000_000
    power = int(10 ** Decimal(mc).adjusted())
    # At least a few mc, so that the lines of the scale differ.
    return max(next(step * power for step in _STEPS if step * power >= mc), _LINES)
