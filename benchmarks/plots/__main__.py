"""Measure how the system grows, and keep the figures; `python -m plots.draw` draws them.

make bench-plots                                      what ends within ten minutes
make bench-plots PLOTS="--large"                      what docs/growth.md shows
make bench-plots PLOTS="--only ledger --sizes 0 100000"
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

from plots import batches, credentials, ledger, organizations, partitions, workers
from plots.figures import Figures, Point, machine


class Part(NamedTuple):
    """What is measured by itself."""

    points: Callable[[Sequence[int]], Iterator[Point]]
    sizes: Sequence[int]
    large: Sequence[int]


PARTS = {
    "organizations": Part(organizations.points, organizations.SIZES, organizations.ALL_SIZES),
    "credentials": Part(credentials.points, credentials.SIZES, credentials.ALL_SIZES),
    "batches": Part(batches.points, batches.SIZES, batches.ALL_SIZES),
    "partitions": Part(partitions.points, partitions.SIZES, partitions.ALL_SIZES),
    "workers": Part(workers.points, workers.SIZES, workers.SIZES),
    "ledger": Part(ledger.points, ledger.SIZES, ledger.ALL_SIZES),
}


def main() -> int:
    """Measure part after part, and keep each."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options.add_argument("--large", action="store_true", help="up to the largest sizes: half an hour, 20 GB of disk")
    options.add_argument("--sizes", type=int, nargs="+", help="in rising order; figures of others stay")
    asked = options.parse_args()
    for name in asked.only:
        part = PARTS[name]
        print(f"{name}:", flush=True)
        sizes = asked.sizes or (part.large if asked.large else part.sizes)
        found = _kept(name, sizes) if asked.sizes else []
        for each in part.points(sizes):
            # What is measured is kept, should a later size not end.
            found = sorted([*found, each], key=attrgetter("size"))
            Figures(name, machine(), found).write()
    return 0


def _kept(name: str, sizes: Sequence[int]) -> list[Point]:
    """What was measured at other sizes before."""
    try:
        return [each for each in Figures.read(name).points if each.size not in sizes]
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(main())
