"""Receipts: everything one entry follows from, derived again with the pure core and compared with what was booked."""

from __future__ import annotations

from collections.abc import Container
from typing import Any
from uuid import UUID

from schemas.registry_changes import CredentialChange
from services.books.entry_rows import attribution_columns, event_of
from services.books.registry_log import Recorded
from services.domain.credits import MC_PER_CREDIT
from services.domain.directory import Directory
from services.domain.entries import attribution
from services.domain.model_prices import UnpricedError
from services.domain.permissions import Told
from services.domain.rating import Rating, rate
from services.domain.resolution import Use
from services.domain.scope import Scope, ScopeType
from services.domain.usage import UsageEvent
from services.ledger import explanation
from services.ledger.key_sight import KeySight
from services.ledger.registry import Known, RegistryView
from services.ledger.repository import EntryRepository, Row
from services.messages.registry_changes import read_change


def build_receipt(entry: Row, repository: EntryRepository, registry: RegistryView, keys: KeySight) -> dict[str, Any]:
    """The receipt of an entry, of keys what may be told. A reversal's evidence is that of the entry it takes back."""
    revisions = repository.revisions(entry)
    by_id = {row["entry_id"]: row for row in revisions}
    evident = by_id[entry["adjusts"]] if entry["kind"] == "reversal" else entry
    event = event_of(evident)
    claimed = None if event.claim is None else event.claim.credential_id
    known = registry.as_of(evident["registry_seq"], event.org_id, event.provider, claimed)
    causes = repository.changes([row["caused_by_seq"] for row in revisions if row["caused_by_seq"] is not None])
    applied = {row["credential_id"] for row in revisions}
    return {
        "entry": keys.entry(entry),
        "explains_entry_id": evident["entry_id"],
        "current_entry_id": _current(revisions),
        "revisions": [keys.entry(row) | {"caused_by": _cause(row, causes, applied, keys)} for row in revisions],
        "claim": None if event.claim is None else _claim(evident, claimed, known, keys),
        "flags": evident["flags"],
        "evidence": _evidence(event, evident, known, keys),
        "read_from": _origin(revisions[0], repository),
        "traceparent": repository.traceparent(revisions[0]),
        "mc_per_credit": MC_PER_CREDIT,
    }


def _claim(row: Row, claimed: str | None, known: Known, keys: KeySight) -> dict[str, Any]:
    """What the event said whose key it used."""
    told = keys.told_of_claimed(known.claimed, applied=claimed == row["credential_id"])
    return {"source": row["claim_source"], "credential_id": claimed if told >= Told.ID else None}


def _current(revisions: list[Row]) -> UUID:
    last: UUID = max((row for row in revisions if row["kind"] != "reversal"), key=lambda row: int(row["revision"]))[
        "entry_id"
    ]
    return last


def _cause(
    row: Row, causes: dict[int, Recorded], applied: Container[str | None], keys: KeySight
) -> dict[str, Any] | None:
    if row["caused_by_seq"] is None:
        return None
    change = causes.get(row["caused_by_seq"])
    if change is None:
        return {"seq": row["caused_by_seq"], "key": None, "kind": None, "changed_at": None}
    message = read_change(change.payload)
    told = Told.HINT
    if isinstance(message, CredentialChange):
        scope = Scope(ScopeType(message.scope.type), message.scope.id)
        told = keys.told(scope, applied=message.credential_id in applied)
    return {
        "seq": change.seq,
        "key": change.key if told >= Told.ID else None,
        "kind": message.kind,
        "changed_at": message.changed_at if told >= Told.TIMES else None,
    }


def _origin(charge: Row, repository: EntryRepository) -> dict[str, Any] | None:
    partition = repository.source_partition(charge["source_partition_id"])
    if partition is None:
        return None
    return {
        "cluster_id": partition["cluster_id"],
        "topic": partition["topic"],
        "partition": partition["partition"],
        "offset": charge["source_offset"],
        "index": charge["source_index"],
    }


def _evidence(event: UsageEvent, row: Row, known: Known, keys: KeySight) -> dict[str, Any]:
    try:
        rating = rate(event, known.directory)
    except UnpricedError as error:
        # It was priced once, so the registry log of this database has lost what it was priced with.
        return {"registry_seq": row["registry_seq"], "agrees": False, "problem": str(error)}
    derived = attribution_columns(attribution(rating))
    return {
        "registry_seq": row["registry_seq"],
        "plan": explanation.plan_evidence(known.directory, event.org_id, event.occurred_at),
        "candidates": candidate_list(event, rating, known, keys),
        "rate_card": explanation.card_line(event, rating),
        "arithmetic": explanation.arithmetic(event, rating),
        "rederived": {
            **derived,
            "credential_id": keys.id_of_applied(rating.resolution.credential),
        },
        "agrees": all(row[name] == value for name, value in derived.items()),
    }


def candidate_list(event: UsageEvent, rating: Rating, known: Known, keys: KeySight) -> list[dict[str, Any]]:
    """The keys that came into question, in order; none where no model is called."""
    if event.provider is None:
        return []
    use = Use(event.org_id, event.team_id, event.user_id, event.provider, event.occurred_at)
    return explanation.candidates(use, event.claim, rating.resolution, known, rating.card, keys)


def plan_of(directory: Directory, event: UsageEvent) -> dict[str, Any]:
    """The plan that the event's price was found with."""
    return explanation.plan_evidence(directory, event.org_id, event.occurred_at)
