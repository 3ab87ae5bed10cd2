"""The figures of docs/growth.md, as they are kept beside the pictures that were drawn from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from plots.figures import FOLDER, Figures, Point

_SOME = Figures(
    "some",
    "a machine",
    [
        Point(0, 1.5, {"worker, µs an event": 31.5}),
        Point(1_000, 2.0, {"worker, µs an event": 32.25, "the newest page p50, ms": 1.5}),
    ],
)


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    _SOME.write(tmp_path)
    assert Figures.read("some", tmp_path) == _SOME


def test_what_was_not_measured_at_a_size_is_left_out_there() -> None:
    assert _SOME.series("worker, µs an event") == ([0, 1_000], [31.5, 32.25])
    assert _SOME.series("the newest page p50, ms") == ([1_000], [1.5])
    assert _SOME.series("nothing") == ([], [])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_what_is_kept_can_be_drawn(path: Path) -> None:
    kept = Figures.read(path.stem)
    sizes = [point.size for point in kept.points]
    assert kept.part == path.stem
    assert sizes == sorted(set(sizes))
    assert all(point.values for point in kept.points)
