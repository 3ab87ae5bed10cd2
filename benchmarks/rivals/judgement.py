"""What a program has written of some events, held against what is right: lost, doubled, wrong, and how much money."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import NamedTuple


class Charged(NamedTuple):
    """What was written of one event: how often it was charged, and what that comes to in all."""

    event_id: str
    times: int
    charged_mc: int


class Verdict(NamedTuple):
    """How far off a program is; amounts in mc."""

    events: int
    lost: int
    """Events that were never charged."""
    doubled: int
    """Events that were charged more than once."""
    wrong: int
    """Events that were charged once, and not what is right."""
    off_mc: int
    """The differences added up, each as it is or turned positive: what is too much for one makes up for no other."""
    right_mc: int

    @property
    def error(self) -> Fraction:
        """The money error: what is off, for all that is right."""
        return Fraction(self.off_mc, self.right_mc)


def judge(right: Mapping[str, int], written: Iterable[Charged]) -> Verdict:
    """Compare what was written with the ``right`` charges, by event. Raises ValueError for an event nobody sent."""
    found = {each.event_id: each for each in written}
    if strangers := found.keys() - right.keys():
        raise ValueError(f"{len(strangers)} events were charged that nobody sent, such as {min(strangers)}")
    never = Charged("", 0, 0)
    pairs = [(mc, found.get(event_id, never)) for event_id, mc in right.items()]
    return Verdict(
        events=len(right),
        lost=sum(each.times == 0 for _, each in pairs),
        doubled=sum(each.times > 1 for _, each in pairs),
        wrong=sum(each.times == 1 and each.charged_mc != mc for mc, each in pairs),
        off_mc=sum(abs(each.charged_mc - mc) for mc, each in pairs),
        right_mc=sum(right.values()),
    )
