"""Against the number of credentials: how long a worker takes to know them, and what it holds and events take then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from plots.figures import Point, point
from plots.whole_worker import Bench, bench, plans_and_keys

SIZES = (1_000, 10_000, 100_000)
ALL_SIZES = (*SIZES, 1_000_000)
_EACH = 50
_EVENTS, _RECORD_EVENTS = 100_000, 100


def points(asked: Sequence[int]) -> Iterator[Point]:
    """One for each number: fifty to an organization, of which the events are in turns."""
    for credentials in asked:
        with bench() as at:
            at.say(plans_and_keys(range(credentials // _EACH), _EACH))
            yield point(credentials, _read(at) | at.book(_EVENTS, _RECORD_EVENTS, credentials // _EACH).told())


def _read(at: Bench) -> dict[str, float]:
    """By the first worker of an empty ledger, which writes each change down; and by one that starts later.

    In the end there is a change to be worked off, so that the re-rater has read all of it, too.
    """
    found: dict[str, float] = {}
    for which in ("first start", "a later start"):
        with at.workers() as (worker,):
            started = worker.wait_for_the_log()
        at.nothing_to_correct()
        found |= {
            f"{which}, s": started.seconds,
            f"{which}, s of processor time": started.worker_seconds,
            f"{which}, MB at most": started.most_megabytes,
        }
    at.say(plans_and_keys([0], keys_each=0))
    return found
