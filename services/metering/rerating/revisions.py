"""Writes revisions: the reversal and the correction of many entries, in two statements.

What an event is, where it was read, and what a reversal takes back, the database has in the entry's own row. Only what
is new is sent: ids, the attribution, the amounts. That is a fifth of the two rows, and one statement, unlike COPY, does
not leave a server waiting, with locks, for a client that was stopped in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg import Connection

from services.domain.entries import Entry

_SAME = (
    *("org_id", "event_source", "event_id", "event_type", "occurred_at", "user_id", "team_id", "run_id", "agent_id"),
    *("workflow_id", "parent_run_id", "node", "tool", "provider", "model", "succeeded"),
    *("claim_source", "claim_credential_id", "payload_hash"),
)
_NEGATED = (
    *("quantity", "input_tokens", "cached_input_tokens", "output_tokens"),
    *("list_mc", "charged_mc", "saved_mc"),
)
_COUNTS = _NEGATED[:4]
# What an attribution says, without its amounts, in its own order.
_SAID = ("key_source", "byok_scope", "credential_id", "reason", "flags", "rate_card", "tier")

_NEW = "entry_id, kind, revision, adjusts, registry_seq, caused_by_seq"


def _old(columns: Sequence[str]) -> str:
    return ", ".join(f"old.{column}" for column in columns)


_REVERSALS = f"""
INSERT INTO ledger.entry ({_NEW}, {", ".join((*_SAME, *_SAID, *_NEGATED))})
SELECT new.entry_id, 'reversal', old.revision + 1, old.entry_id, %(registry_seq)s, %(cause)s,
  {_old(_SAME)}, {_old(_SAID)}, {", ".join(f"-old.{column}" for column in _NEGATED)}
FROM unnest(%(olds)s::uuid[], %(reversals)s::uuid[]) AS new (old_id, entry_id)
JOIN ledger.entry old ON old.entry_id = new.old_id
"""
_CORRECTIONS = f"""
INSERT INTO ledger.entry ({_NEW}, {", ".join((*_SAME, *_COUNTS, *_SAID, "list_mc", "charged_mc", "saved_mc"))})
SELECT new.entry_id, 'correction', old.revision + 1, coalesce(old.adjusts, old.entry_id), %(registry_seq)s, %(cause)s,
  {_old(_SAME)}, {_old(_COUNTS)},
  said.key_source, said.byok_scope, said.credential_id, said.reason, string_to_array(said.flags, ','), said.rate_card,
  said.tier, new.list_mc, new.charged_mc, new.list_mc - new.charged_mc
FROM unnest(%(olds)s::uuid[], %(corrections)s::uuid[], %(says)s::int[], %(list_mc)s::bigint[], %(charged_mc)s::bigint[])
  AS new (old_id, entry_id, says, list_mc, charged_mc)
JOIN ledger.entry old ON old.entry_id = new.old_id
JOIN unnest(%(key_source)s::text[], %(byok_scope)s::text[], %(credential_id)s::text[], %(reason)s::text[],
  %(flags)s::text[], %(rate_card)s::text[], %(tier)s::text[]) WITH ORDINALITY
  AS said (key_source, byok_scope, credential_id, reason, flags, rate_card, tier, says) ON said.says = new.says
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
    places = {said: place for place, said in enumerate(dict.fromkeys(new[: len(_SAID)] for new in news), start=1)}
    values: dict[str, Any] = dict(zip(_SAID, map(list, zip(*places, strict=True)), strict=True))
    values |= {
        "flags": [",".join(flags) for flags in values["flags"]],
        "says": [places[new[: len(_SAID)]] for new in news],
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
