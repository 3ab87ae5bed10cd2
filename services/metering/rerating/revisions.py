"""Writes revisions: the reversal and the correction of many entries, in two statements.

What an event is, where it was read, and what a reversal takes back, the database has in the entry's own row. Only what
is new is sent: ids, the attribution, the amounts. That is a fifth of the two rows, and one statement, unlike COPY, does
not leave a server waiting, with locks, for a client that was stopped in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from psycopg import Connection

from services.books import columns
from services.domain.entries import Entry
from services.runtime.database import arrays

# A value of each column, out of the row of the entry that is revised and of what is new.
_REVISION = {name: f"old.{name}" for name in columns.EVENT} | {
    "entry_id": "new.entry_id",
    "revision": "old.revision + 1",
    "registry_seq": "%(registry_seq)s",
    columns.CAUSE: "%(cause)s",
}
_REVERSAL = {
    **_REVISION,
    "kind": "'reversal'",
    "adjusts": "old.entry_id",
    **{name: f"old.{name}" for name in columns.ATTRIBUTION},
    **{name: f"-old.{name}" for name in columns.SUMMED},
    columns.USAGE: f"ledger.negated(old.{columns.USAGE})",
}
_CORRECTION = {
    **_REVISION,
    "kind": "'correction'",
    "adjusts": "coalesce(old.adjusts, old.entry_id)",
    **{name: f"old.{name}" for name in (*columns.COUNTS, columns.USAGE)},
    **{name: f"said.{name}" for name in columns.ATTRIBUTION},
    "flags": "string_to_array(said.flags, ',')",
    **{name: f"new.{name}" for name in columns.PRICE},
    "saved_mc": "new.list_mc - new.charged_mc",
}
_said = attrgetter(*columns.ATTRIBUTION)


def _insert(values: Mapping[str, str]) -> str:
    return f"INSERT INTO ledger.entry ({', '.join(values)}) SELECT {', '.join(values.values())}"


_REVERSALS = f"""
{_insert(_REVERSAL)}
FROM unnest(%(olds)s::uuid[], %(reversals)s::uuid[]) AS new (old_id, entry_id)
JOIN ledger.entry old ON old.entry_id = new.old_id
"""
_CORRECTIONS = f"""
{_insert(_CORRECTION)}
FROM unnest(%(olds)s::uuid[], %(corrections)s::uuid[], %(says)s::int[], %(list_mc)s::bigint[], %(charged_mc)s::bigint[])
  AS new (old_id, entry_id, says, list_mc, charged_mc)
JOIN ledger.entry old ON old.entry_id = new.old_id
JOIN unnest({", ".join(f"%({name})s::text[]" for name in columns.ATTRIBUTION)}) WITH ORDINALITY
  AS said ({columns.listed(columns.ATTRIBUTION)}, says) ON said.says = new.says
"""


class Revision(NamedTuple):
    """An entry, and the reversal and correction that put it right."""

    old: Entry
    reversal: Entry
    correction: Entry


def write_revisions(connection: Connection[Any], revisions: Sequence[Revision], cause: int) -> None:
    """Write them, all or none; ``cause`` is the number of the change that brought them about.

    Raises psycopg.IntegrityError where one of the entries was revised before.
    """
    news = [revision.correction.attribution for revision in revisions]
    # What many corrections say is the same, and sent once.
    says = [_said(new) for new in news]
    places = {said: place for place, said in enumerate(dict.fromkeys(says), start=1)}
    values: dict[str, Any] = dict(zip(columns.ATTRIBUTION, arrays(places), strict=True))
    values |= {
        "flags": [",".join(flags) for flags in values["flags"]],
        "says": [places[said] for said in says],
        "list_mc": [new.amounts.list_mc for new in news],
        "charged_mc": [new.amounts.charged_mc for new in news],
        "olds": [revision.old.entry_id for revision in revisions],
        "reversals": [revision.reversal.entry_id for revision in revisions],
        "corrections": [revision.correction.entry_id for revision in revisions],
        "registry_seq": revisions[0].correction.registry_seq,
        "cause": cause,
    }
    connection.execute(_REVERSALS, values)
    connection.execute(_CORRECTIONS, values)
