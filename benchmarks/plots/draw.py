"""Draw the kept figures as docs/images/growth-*.svg. Runs in an environment of its own, which has matplotlib.

Grey letters on no background can be read on white and on black; letters stay letters, so that files are small.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from plots.figures import FOLDER, Figures

IMAGES = Path(__file__).parents[2] / "docs" / "images"
_GREY, _LINES = "#818b98", "#81818140"
_COLOURS = ("#2f81f7", "#e5534b", "#2da44e", "#b5851b", "#a371f7", "#219aab", "#d96fb4", "#818b98")


class Panel(NamedTuple):
    """One diagram: what it shows on the vertical axis, and under which names the figures have it."""

    title: str
    lines: Mapping[str, str]
    """What each line is called, to the name in the figures."""
    logarithmic: bool = False


class Picture(NamedTuple):
    """Diagrams side by side over one horizontal axis."""

    part: str
    across: str
    panels: Sequence[Panel]


_EVENT = Panel("processor time, µs an event", {"worker": "worker, µs an event"})
_RATE = Panel("events/s", {"events/s": "events/s"})
_MEMORY = Panel("memory of the worker, MB", {"memory": "worker's memory, MB"})


def _medians(prefix: str, *names: str) -> dict[str, str]:
    return {name: f"{prefix}{name} p50, ms" for name in names}


_FILTERS = ("by run", "by an absent user", "by flag", "by an absent flag")
PICTURES = {
    "organizations": Picture("organizations", "organizations", (_RATE, _EVENT, _MEMORY)),
    "credentials": Picture(
        "credentials",
        "credentials",
        (
            Panel(
                "seconds until a worker knows them",
                {"first start": "first start, s", "later": "a later start, s"},
                logarithmic=True,
            ),
            Panel(
                "memory of the worker, MB",
                {"start, at most": "a later start, MB at most", "booking": "worker's memory, MB"},
            ),
            _EVENT,
        ),
    ),
    "batches": Picture("batches", "events in a record", (_RATE, _EVENT, _MEMORY)),
    "partitions": Picture("partitions", "partitions", (_RATE, _EVENT, _MEMORY)),
    "ledger-writing": Picture(
        "ledger",
        "entries in the ledger",
        (
            Panel("commit of 1,000 events, ms", {"p50": "commit p50, ms", "p99": "commit p99, ms"}),
            Panel(
                "processor time, µs an event",
                {
                    "worker": "worker, µs an event",
                    "PostgreSQL": "PostgreSQL, µs an event",
                    "places and sums": "places and sums, µs an entry",
                },
            ),
            Panel("WAL from a checkpoint on, bytes a row", {"WAL": "WAL, bytes a row"}),
        ),
    ),
    "ledger-reading": Picture(
        "ledger",
        "entries in the ledger, half of them of one organization",
        (
            Panel(
                "pages of 100 entries, median, ms",
                _medians("", "the newest page", "a page in the middle", "a page of the feed", "a receipt's entry")
                | _medians("a page ", *_FILTERS),
            ),
            Panel("sums, median, ms", _medians("sums: ", "in all", "by provider", "by day", "by user", "of one run")),
        ),
    ),
}


def main() -> int:
    """Draw what there are figures of."""
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "growth", "font.family": "sans-serif", "font.size": 9}
    for name, picture in PICTURES.items():
        if (FOLDER / f"{picture.part}.json").exists():
            _draw(picture, Figures.read(picture.part)).savefig(
                IMAGES / f"growth-{name}.svg", transparent=True, metadata={"Date": None, "Creator": None}
            )
    return 0


def _draw(picture: Picture, figures: Figures) -> Figure:
    drawn = Figure(figsize=(10.8, 2.9), layout="constrained")
    for panel, axes in zip(picture.panels, drawn.subplots(1, len(picture.panels), squeeze=False)[0], strict=True):
        _diagram(axes, panel, figures, picture.across)
    return drawn


def _diagram(axes: Axes, panel: Panel, figures: Figures, across: str) -> None:
    for colour, (label, name) in zip(_COLOURS, panel.lines.items(), strict=False):
        sizes, values = figures.series(name)
        axes.plot(sizes, values, marker="o", markersize=3.5, linewidth=1.5, color=colour, label=label)
    # Nothing has no place on a logarithmic axis; it is drawn beside the smallest of the others.
    axes.set_xscale("symlog", linthresh=_smallest(figures))
    if panel.logarithmic:
        axes.set_yscale("log")
    else:
        axes.margins(y=0.1)
        axes.set_ylim(bottom=0)
    axes.set_title(panel.title, color=_GREY, fontsize=9, loc="left")
    axes.set_xlabel(across, color=_GREY)
    sizes = [point.size for point in figures.points]
    axes.set_xticks(sizes, labels=[_short(size) for size in sizes], fontsize=8)
    axes.set_xticks([], minor=True)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.tick_params(colors=_GREY, which="both")
    axes.grid(visible=True, color=_LINES, linewidth=0.6)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if len(panel.lines) > 1:
        axes.legend(fontsize=8, labelcolor=_GREY, frameon=False)


def _smallest(figures: Figures) -> int:
    return min(point.size for point in figures.points if point.size)


def _short(value: float, _: Any = None) -> str:
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


if __name__ == "__main__":
    sys.exit(main())
