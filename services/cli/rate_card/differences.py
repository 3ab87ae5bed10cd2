"""In what two cards differ: every place, and what of that is worth a look."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any, NamedTuple

_BESIDES = "besides models"
_COLUMNS = 100
_DETAILS_MAX = 10


class Change(NamedTuple):
    """One place of a card's body that says something else; None where it is not there."""

    path: tuple[str, ...]
    before: Any
    after: Any

    @property
    def place(self) -> str:
        """Where it is, by name."""
        return ".".join(self.path)

    @property
    def subject(self) -> tuple[str, ...]:
        """What has changed by it: a model, or the place itself."""
        return self.path[:3] if self.path[0] == "models" else self.path

    @property
    def group(self) -> str:
        """Of which provider it is."""
        return self.path[1] if self.path[0] == "models" and len(self.path) > 1 else _BESIDES

    @property
    def growth(self) -> Fraction | None:
        """By what part of it an amount rose; negative: fell. None where it cannot be said."""
        if isinstance(self.before, bool) or isinstance(self.after, bool):
            return None
        try:
            return Fraction(self.after) / Fraction(self.before) - 1
        except (TypeError, ValueError, ZeroDivisionError):
            return None

    def __str__(self) -> str:
        growth = "" if self.growth is None else f" ({round(100 * self.growth):+,} %)"
        return f"{_name(self.path)}  {text_of(self.before)} → {text_of(self.after)}{growth}"


def text_of(value: Any) -> str:
    """What stands on a card, as people write it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _name(path: tuple[str, ...]) -> str:
    return ".".join(path[2:] if path[0] == "models" else path)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Every place in which two bodies differ, by name."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    paths = sorted(old.keys() | new.keys())
    return [Change(path, old.get(path), new.get(path)) for path in paths if old.get(path) != new.get(path)]


def _leaves(body: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(body, Mapping) and (body or not path):
        for name, value in body.items():
            yield from _leaves(value, (*path, name))
    else:
        yield path, body


def overview(before: Mapping[str, Any], after: Mapping[str, Any], lines_max: int) -> list[str]:
    """What differs, provider by provider, in at most so many lines: how much, what is gone, and the largest changes."""
    # An object that is empty on one side says nothing beside what stands in it on the other.
    told = (change for change in changes(before, after) if {} not in (change.before, change.after))
    differ = sorted(told, key=lambda change: change.group)
    groups = [list(group) for _, group in groupby(differ, key=lambda change: change.group)]
    groups.sort(key=lambda group: (group[0].group != _BESIDES, -len(group), group[0].group))
    shown, left = (groups, []) if len(groups) <= lines_max else (groups[: lines_max - 1], groups[lines_max - 1 :])
    details = min(_DETAILS_MAX, (lines_max - len(shown) - bool(left)) // max(len(shown), 1))
    lines = [line for group in shown for line in _of_group(group, before, after, details)]
    if left:
        lines.append(f"and {sum(map(len, left)):,} changes of {len(left):,} more providers")
    return [line if len(line) <= _COLUMNS else f"{line[: _COLUMNS - 1]}…" for line in lines]


def _of_group(
    group: Sequence[Change], before: Mapping[str, Any], after: Mapping[str, Any], details: int
) -> Iterator[str]:
    subjects = dict.fromkeys(change.subject for change in group)
    new = {subject for subject in subjects if not _has(before, subject)}
    gone = [_name(subject) for subject in subjects if not _has(after, subject)]
    altered = [change for change in group if change.subject not in new and _has(after, change.subject)]
    counts = {"new": len(new), "gone": len(gone), "changed": len({change.subject for change in altered})}
    models = "models of " if group[0].path[0] == "models" else ""
    yield f"{models}{group[0].group}: {', '.join(f'{count:,} {word}' for word, count in counts.items() if count)}"
    told = [f"gone: {', '.join(gone)}"] if gone else []
    yield from (f"  {line}" for line in [*told, *map(str, sorted(altered, key=_largest_first))][:details])


def _has(body: Any, path: Iterable[str]) -> bool:
    for name in path:
        if not isinstance(body, Mapping) or name not in body:
            return False
        body = body[name]
    return True


def _largest_first(change: Change) -> tuple[bool, Fraction]:
    # What no number measures, such as another tier, is to be seen first.
    growth = change.growth
    return (growth is not None, -abs(growth or Fraction()))
