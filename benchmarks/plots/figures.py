"""What was measured, as it is kept: one JSON file for each part, with the load of the machine beside each point."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

FOLDER = Path(__file__).parent / "figures"


class Point(NamedTuple):
    """What was measured at one size."""

    size: int
    load: float
    """Load average of the last minute: how many others were at work, too."""
    values: dict[str, float]
    """By what each is, its unit included."""


def point(size: int, values: dict[str, float]) -> Point:
    """A point that is measured now; said on the terminal, too."""
    load = round(os.getloadavg()[0], 1)
    print(f"{size:,} (load {load})")
    for name, value in values.items():
        print(f"  {name:<60}{value:>12,.1f}", flush=True)
    return Point(size, load, {name: float(f"{value:.4g}") for name, value in values.items()})


class Figures(NamedTuple):
    """All points of one part, in the order of their sizes."""

    part: str
    machine: str
    points: Sequence[Point]

    def write(self, folder: Path = FOLDER) -> None:
        """Keep them, in place of what was kept of this part."""
        points = [{"size": each.size, "load": each.load, **each.values} for each in self.points]
        content = {"part": self.part, "machine": self.machine, "points": points}
        (folder / f"{self.part}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, part: str, folder: Path = FOLDER) -> Self:
        """What was kept. Raises OSError or ValueError where there is nothing, or something else."""
        content = json.loads((folder / f"{part}.json").read_text(encoding="utf-8"))
        return cls(content["part"], content["machine"], [_read(each) for each in content["points"]])

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """The sizes at which something was measured, and what it was there."""
        found = [(each.size, each.values[name]) for each in self.points if name in each.values]
        return [size for size, _ in found], [value for _, value in found]


def _read(content: dict[str, Any]) -> Point:
    values = {name: value for name, value in content.items() if name not in Point._fields}
    return Point(content["size"], content["load"], values)


def machine() -> str:
    """What it was measured on."""
    return f"{os.cpu_count()} cores, Python {platform.python_version()}"
