"""How many of the events that were booked lately became dead letters, and whose. Pure: the clock is given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

_SLICES = 100
"""Events are forgotten in hundredths of the window, so that its memory does not grow with the traffic."""
_GROUPS_KEPT = 200
"""Of each slice so many groups are remembered, those with the most dead letters: ids are a producer's to make up."""


class Limit(NamedTuple):
    """What is too much: a ``share`` of dead letters above this, among at least ``min_events`` within the window."""

    share: float
    window_seconds: int
    min_events: int
    spares_largest: bool = True
    """Whether the largest organization and source are taken out before the rest is judged, too."""

    @property
    def least_events(self) -> int:
        """Of fewer events nothing is said about a part of them: a hundredth of the minimum."""
        return max(1, self.min_events // 100)


class Origin(NamedTuple):
    """Whose an event is, as far as it is known; as a group of events, None stands for any."""

    org_id: str | None
    source: str | None


class Count(NamedTuple):
    """How many events, and how many of them became dead letters."""

    events: int
    dead_letters: int

    def plus(self, other: Count) -> Count:
        """Both."""
        return Count(self.events + other.events, self.dead_letters + other.dead_letters)

    def minus(self, other: Count) -> Count:
        """What is left without those."""
        return Count(self.events - other.events, self.dead_letters - other.dead_letters)


class Excess(NamedTuple):
    """What was counted within the window when it was too much."""

    events: int
    dead_letters: int


_NONE = Count(0, 0)
_UNKNOWN_SOURCE = Origin(None, None)
_Groups = dict[Origin, Count]


class _Slice:
    def __init__(self, number: int) -> None:
        self.number = number
        self.whole = _NONE
        self.groups: _Groups = {}

    def add(self, origin: Origin, count: Count) -> None:
        self.whole = self.whole.plus(count)
        for group in _groups_of(origin):
            self.groups[group] = self.groups.get(group, _NONE).plus(count)
        if len(self.groups) > 2 * _GROUPS_KEPT:
            unknown = self.groups.get(_UNKNOWN_SOURCE, _NONE)
            largest = sorted(self.groups.items(), key=lambda pair: (pair[1].dead_letters, pair[1].events))
            self.groups = dict(largest[-_GROUPS_KEPT:]) | {_UNKNOWN_SOURCE: unknown}


class DeadLetterShare:
    """Counts over a sliding window. A duplicate counts as an event: what was sent twice is no bad event."""

    def __init__(self, limit: Limit, clock: Callable[[], float]) -> None:
        """``clock`` tells seconds from any beginning, and never goes back."""
        self._limit = limit
        self._clock = clock
        self._slices: deque[_Slice] = deque()
        self._whole = _NONE

    def add(self, counts: Mapping[Origin, Count]) -> Excess | None:
        """Count one batch that was booked; what the window holds, where that is too much for all to go on."""
        self._slide()
        number = self._number()
        if not self._slices or self._slices[-1].number != number:
            self._slices.append(_Slice(number))
        for origin, count in counts.items():
            self._slices[-1].add(origin, count)
            self._whole = self._whole.plus(count)
        return Excess(*self._whole) if self._is_too_much() else None

    def clear(self) -> None:
        """Count anew."""
        self._slices.clear()
        self._whole = _NONE

    def failing(self) -> dict[Origin, Count]:
        """The organizations, and the sources, of whose own events in the window too many became dead letters."""
        self._slide()
        if self._whole.dead_letters < self._limit.share * self._limit.least_events:
            return {}
        return {
            group: count
            for group, count in self._groups().items()
            if (group.org_id is None) != (group.source is None) and self._fails(count, self._limit.least_events)
        }

    def _is_too_much(self) -> bool:
        if not self._fails(self._whole, self._limit.min_events):
            return False
        if not self._limit.spares_largest:
            return True
        groups = self._groups()
        rest = self._without_largest(groups)
        if rest.events >= self._limit.least_events:
            return self._fails(rest, self._limit.least_events)
        # There is nobody to judge by, so it is that one's affair. But where nothing at all could be read, only the
        # records' keys say whose it is, and the fault may as well be the reader's: ours.
        return groups.get(_UNKNOWN_SOURCE, _NONE) == self._whole

    def _without_largest(self, groups: _Groups) -> Count:
        organizations = {g.org_id: count for g, count in groups.items() if g.source is None and g.org_id is not None}
        org_id = _largest(organizations)
        rest = self._whole.minus(_NONE if org_id is None else organizations[org_id])
        besides = {
            g.source: count.minus(groups.get(Origin(org_id, g.source), _NONE))
            for g, count in groups.items()
            if g.org_id is None and g.source is not None
        }
        source = _largest(besides)
        without = rest if source is None else rest.minus(besides[source])
        # A source that is nearly the only one is the platform's own.
        return without if without.events >= self._limit.least_events else rest

    def _fails(self, count: Count, min_events: int) -> bool:
        return count.events >= min_events and count.dead_letters > self._limit.share * count.events

    def _groups(self) -> _Groups:
        groups: _Groups = {}
        for each in self._slices:
            for group, count in each.groups.items():
                groups[group] = groups.get(group, _NONE).plus(count)
        return groups

    def _number(self) -> int:
        return int(self._clock() * _SLICES // self._limit.window_seconds)

    def _slide(self) -> None:
        oldest = self._number() - _SLICES + 1
        while self._slices and self._slices[0].number < oldest:
            self._whole = self._whole.minus(self._slices.popleft().whole)


def _groups_of(origin: Origin) -> Iterator[Origin]:
    """What an event is counted under: its organization, its source, and both; or that its source is not known."""
    yield Origin(None, origin.source)
    if origin.org_id is not None:
        yield Origin(origin.org_id, None)
        if origin.source is not None:
            yield origin


def _largest(counts: Mapping[str, Count]) -> str | None:
    """Who has the most dead letters; None where nobody is known."""
    return max(counts, key=lambda name: (counts[name].dead_letters, name), default=None)
