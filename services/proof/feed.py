"""Holds the feed and the roll-ups against the entries: each has one place, and is in every sum of its own once.

The finest roll-up is compared with the entries that have a place, and the others with the finest: one pass over all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from services.books.columns import SUMMED, listed
from services.books.roll_ups import FINEST, ROLL_UPS, SUMS, RollUp
from services.proof.entries import Difference

PLACES = """
SELECT entry_id, sum(entries)::int AS entries, sum(places)::int AS places, sum(waiting)::int AS waiting
FROM (SELECT entry_id, 1 AS entries, 0 AS places, 0 AS waiting FROM ledger.entry
      UNION ALL SELECT entry_id, 0, 1, 0 FROM ledger.entry_position
      UNION ALL SELECT unnest(entry_ids), 0, 0, 1 FROM ledger.entry_batch) AS seen
GROUP BY entry_id HAVING sum(entries) <> 1 OR sum(places) + sum(waiting) <> 1
"""
"""Entries, by their ids, that have not one place or wait for it once; and places that have no entry."""


def _negated(names: Iterable[str]) -> str:
    return ", ".join(f"-{name} AS {name}" for name in names)


def _begin(roll_up: RollUp, time: str) -> str:
    begin = f"date_trunc('{roll_up.period}', {time}, 'UTC')"
    return begin if roll_up.period == "hour" else f"({begin} AT TIME ZONE 'UTC')::date"


def _compared(roll_up: RollUp) -> str:
    keys = listed((*roll_up.columns, roll_up.period))
    if roll_up is FINEST:
        of_rows, time = "ledger.entries WHERE entry_id IN (SELECT entry_id FROM ledger.entry_position)", "occurred_at"
        events = "CASE kind WHEN 'reversal' THEN -1 ELSE 1 END"
    else:
        of_rows, time, events = f"ledger.{FINEST.view}", "hour", "events"
    return f"""
    SELECT {keys}, {", ".join(f"sum({name}) AS {name}" for name in SUMS)}, sum(rolled)::int AS rolled
    FROM (SELECT {listed(roll_up.columns)}, {_begin(roll_up, time)} AS {roll_up.period},
            {events} AS events, {listed(SUMMED)}, 0 AS rolled FROM {of_rows}
          UNION ALL SELECT {keys}, {_negated(SUMS)}, 1 FROM ledger.{roll_up.view}) AS both_sides
    GROUP BY {keys} HAVING sum(rolled) <> 1 OR {" OR ".join(f"sum({name}) <> 0" for name in SUMS)}
    """


COMPARED = {roll_up: _compared(roll_up) for roll_up in ROLL_UPS}
"""Of each roll-up the rows that are not the sums of their entries: what each lacks, and how often the row is there."""


def check_places(rows: Iterable[Mapping[str, Any]]) -> Iterator[Difference]:
    """What is wrong with the places, of the rows of ``PLACES``."""
    for row in rows:
        if row["entries"] != 1:
            detail = "it has a place in the feed, or waits for one, and is not there"
        else:
            detail = f"it has {row['places']} places in the feed and waits for {row['waiting']}"
        yield Difference("feed", f"entry {row['entry_id']}", detail)


def check_roll_up(roll_up: RollUp, rows: Iterable[Mapping[str, Any]]) -> Iterator[Difference]:
    """What is wrong with a roll-up, of its rows of ``COMPARED``."""
    for row in rows:
        where = ", ".join(f"{name}={row[name]}" for name in (*roll_up.columns, roll_up.period))
        off = ", ".join(f"{name} {row[name]}" for name in SUMS if row[name])
        detail = f"it is there {row['rolled']} times" if row["rolled"] != 1 else f"its entries come to more by: {off}"
        yield Difference("roll-ups", f"{roll_up.view} {{{where}}}", detail)
