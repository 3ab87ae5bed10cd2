"""How an entry becomes a row of ``ledger.entry``, and a row an entry again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

from services.domain.entries import Attribution, Entry, EntryKind, Quantities
from services.domain.rating import Amounts
from services.domain.usage import Claim, EventType, UsageEvent

_EVENT_TYPES = {event_type.value: event_type for event_type in EventType}
_COUNT_CALLS = {EventType.NODE_CALL, EventType.TOOL_CALL}
_CLAIM_SOURCE = {True: "platform", False: "byok"}


def entry_row(entry: Entry, payload_hash: bytes) -> tuple[Any, ...]:
    """The values of ``BOOKED``."""
    event, what = entry.event, entry.attribution
    claim = event.claim
    return (
        entry.entry_id,
        entry.kind.value,
        entry.revision,
        entry.adjusts,
        entry.registry_seq,
        event.org_id,
        event.source,
        event.id,
        event.type.value,
        event.occurred_at,
        event.user_id,
        event.team_id,
        event.run_id,
        event.agent_id,
        event.workflow_id,
        event.parent_run_id,
        event.node,
        event.tool,
        event.provider,
        event.model,
        event.succeeded,
        None if claim is None else _CLAIM_SOURCE[claim.is_platform],
        None if claim is None else claim.credential_id,
        payload_hash,
        *entry.quantities,
        what.key_source,
        what.byok_scope,
        what.credential_id,
        what.reason,
        list(what.flags),
        what.rate_card,
        what.tier,
        what.amounts.list_mc,
        what.amounts.charged_mc,
    )


class StoredEntry(NamedTuple):
    """An entry as the ledger holds it, with the hash of its payload."""

    entry: Entry
    payload_hash: bytes


def stored_entry(row: Sequence[Any]) -> StoredEntry:
    """The entry in a row that has ``BOOKED``: never a reversal, whose counts would not be the event's."""
    values = iter(row)
    entry_id, kind, revision, adjusts, registry_seq = islice(values, 5)
    org_id, source, event_id, type_name, occurred_at, user_id, team_id, run_id, agent_id = islice(values, 9)
    workflow_id, parent_run_id, node, tool, provider, model, succeeded = islice(values, 7)
    claim_source, claim_credential_id, payload_hash = islice(values, 3)
    quantities = Quantities(*islice(values, 4))
    key_source, byok_scope, credential_id, reason, flags, rate_card, tier = islice(values, 7)
    list_mc, charged_mc = values
    event_type = _EVENT_TYPES[type_name]
    event = UsageEvent(
        org_id,
        source,
        event_id,
        event_type,
        occurred_at,
        user_id,
        team_id,
        run_id,
        agent_id,
        workflow_id,
        parent_run_id,
        node,
        tool,
        provider,
        model,
        quantities.quantity if event_type in _COUNT_CALLS else 0,
        succeeded,
        quantities.input_tokens,
        quantities.cached_input_tokens,
        quantities.output_tokens,
        None if claim_source is None else Claim(claim_credential_id),
    )
    what = Attribution(
        key_source,
        byok_scope,
        credential_id,
        reason,
        tuple(flags),
        rate_card,
        tier,
        Amounts(list_mc, charged_mc),
    )
    entry = Entry(entry_id, EntryKind(kind), revision, adjusts, event, quantities, what, registry_seq)
    return StoredEntry(entry, payload_hash)
