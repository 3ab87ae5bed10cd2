"""Books for the ledger's tests: real prices by the pure core, written by SQL as the owner of the tables."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from services.domain.directory import Directory
from services.domain.entries import Entry, EntryKind, charge, reprice
from services.domain.rating import rate
from services.domain.usage import Claim, EventType, UsageEvent, payload_hash, tokens_in
from services.key_registry.rate_cards import packaged_cards
from services.messages.registry_changes import read_change, to_change

T0 = datetime(2026, 5, 1, 12, tzinfo=UTC)
START = "2026-04-27T00:00:00Z"
# The view's columns, as docs/contract.md, section 6 lists them.
COLUMNS = re.findall(
    r"\w+",
    "entry_id, kind, revision, adjusts, org_id, team_id, user_id, event_source, event_id, event_type, occurred_at,"
    "recorded_at, run_id, agent_id, workflow_id, node, tool, provider, model, tier, quantity, input_tokens,"
    "cached_input_tokens, output_tokens, key_source, byok_scope, credential_id, reason, flags, list_mc, charged_mc,"
    "saved_mc, rate_card, registry_seq, priced_model, usage, conditions",
)


class Books:
    """A ledger database and what its registry log says, so that a test can go on writing both."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.directory = Directory()
        self.offset = 0

    def change(self, *, seq: int | None = None, **message: Any) -> int:
        """Without ``seq`` the next one."""
        seq = seq or self.directory.seq + 1
        payload = json.dumps({"seq": seq, "changed_at": START, **message}).encode()
        change = read_change(payload)
        self.connection.execute(
            "INSERT INTO ledger.registry_change (seq, key, payload) VALUES (%s, %s, %s)", (seq, change.key, payload)
        )
        self.directory.apply(seq, to_change(change))
        return seq

    def rate_cards(self) -> None:
        for card in packaged_cards():
            self.change(
                kind="rate_card", card=card.card, effective_from=card.effective_from.isoformat(), body=card.body
            )

    def plan(self, org_id: str, plan: str, start: str = START, seq: int | None = None) -> int:
        plans = [{"plan": plan, "from": start, "to": None}]
        return self.change(seq=seq, kind="plan", org_id=org_id, plans=plans)

    def credential(
        self,
        credential_id: str,
        org_id: str,
        level: str,
        owner: str,
        start: str = START,
        end: str | None = None,
        seq: int | None = None,
        **more: str,
    ) -> int:
        message: dict[str, Any] = {
            "kind": "credential",
            "credential_id": credential_id,
            "org_id": org_id,
            "scope": {"type": level, "id": owner},
            "provider": "openai",
            "hint": "…abcd",
            "active": [{"from": start, "to": end}],
        }
        return self.change(seq=seq, **(message | more))

    def event(self, event_id: str, **fields: Any) -> UsageEvent:
        base: dict[str, Any] = {
            "org_id": "acme",
            "source": "runner/1",
            "id": event_id,
            "type": EventType.NODE_CALL,
            "occurred_at": T0,
            "user_id": "ann",
            "provider": "openai",
            "model": "gpt-4.1",
            "node": "ask_ai",
            "calls": 1,
        }
        if fields.get("type", EventType.NODE_CALL) is not EventType.NODE_CALL:
            for name in ("node", "calls"):
                del base[name]
        if fields.get("type") is EventType.TOKEN_USAGE_V2:
            base |= tokens_in(dict(fields["usage"]))
        if fields.get("type") in (EventType.TOOL_CALL, EventType.WORKFLOW_RUN):
            for name in ("provider", "model"):
                del base[name]
        return UsageEvent(**(base | fields))

    def book(self, event_id: str, **fields: Any) -> Entry:
        event = self.event(event_id, **fields)
        booked = charge(event, rate(event, self.directory), self.directory.seq)
        self._insert(booked, caused_by=None)
        return booked

    def correct(self, current: Entry, caused_by: int | None = None) -> tuple[Entry, Entry]:
        pair = reprice(current, rate(current.event, self.directory), self.directory.seq)
        assert pair is not None
        for entry in pair:
            self._insert(entry, caused_by=caused_by or self.directory.seq)
        return pair

    def _insert(self, entry: Entry, *, caused_by: int | None) -> None:
        event, what = entry.event, entry.attribution
        is_charge = entry.kind is EntryKind.CHARGE
        row = {
            "entry_id": entry.entry_id,
            "kind": entry.kind.value,
            "revision": entry.revision,
            "adjusts": entry.adjusts,
            "org_id": event.org_id,
            "team_id": event.team_id,
            "user_id": event.user_id,
            "event_source": event.source,
            "event_id": event.id,
            "event_type": event.type.value,
            "occurred_at": event.occurred_at,
            "run_id": event.run_id,
            "agent_id": event.agent_id,
            "workflow_id": event.workflow_id,
            "parent_run_id": event.parent_run_id,
            "node": event.node,
            "tool": event.tool,
            "succeeded": event.succeeded,
            "provider": event.provider,
            "model": event.model,
            "tier": what.tier,
            **entry.quantities._asdict(),
            "usage": _json(dict(event.usage)),
            "conditions": _json(dict(event.conditions)),
            "priced_model": what.priced_model,
            "claim_source": _claim_source(event.claim),
            "claim_credential_id": None if event.claim is None else event.claim.credential_id,
            "key_source": what.key_source,
            "byok_scope": what.byok_scope,
            "credential_id": what.credential_id,
            "reason": what.reason,
            "flags": list(what.flags),
            "list_mc": what.amounts.list_mc,
            "charged_mc": what.amounts.charged_mc,
            "saved_mc": what.amounts.saved_mc,
            "rate_card": what.rate_card,
            "registry_seq": entry.registry_seq,
            "caused_by_seq": caused_by,
            "payload_hash": payload_hash(event),
            "source_partition_id": self.partition() if is_charge else None,
            "source_offset": self.offset if is_charge else None,
            "source_index": 0 if is_charge else None,
        }
        self.offset += is_charge
        places = ", ".join(f"%({name})s" for name in row)
        self.connection.execute(f"INSERT INTO ledger.entry ({', '.join(row)}) VALUES ({places})", row)

    def place(self) -> None:
        """Give every entry its place in the feed, as the sequencer does within 2 s."""
        while self.connection.execute("SELECT ledger.place_entries(100000)").fetchone()[0]:
            pass

    def partition(self, number: int = 0, next_offset: int = 0) -> int:
        statement = (
            "INSERT INTO ledger.source_partition (cluster_id, topic, partition, origin_offset, next_offset)"
            " VALUES ('c1', 'byok.usage-events', %s, 0, %s)"
            " ON CONFLICT (cluster_id, topic, partition) DO UPDATE"
            " SET next_offset = greatest(source_partition.next_offset, excluded.next_offset)"
            " RETURNING source_partition_id"
        )
        return self.connection.execute(statement, (number, next_offset)).fetchone()[0]

    def covered(self, partition_id: int, start: int, end: int, recorded: int, dead: int = 0) -> None:
        self.connection.execute(
            "INSERT INTO ledger.covered_range VALUES (%s, %s, %s, %s, %s, 0, %s)",
            (partition_id, start, end, recorded + dead, recorded, dead),
        )

    def dead_letter(self, org_id: str | None, reason: str, offset: int, **more: Any) -> None:
        row = {
            "source_partition_id": self.partition(),
            "source_offset": offset,
            "source_index": 0,
            "reason": reason,
            "detail": "d",
            "org_id": org_id,
            "payload": b"x",
            "masked": False,
            **more,
        }
        places = ", ".join(f"%({name})s" for name in row)
        self.connection.execute(f"INSERT INTO ledger.dead_letter ({', '.join(row)}) VALUES ({places})", row)

    def metric(self, name: str, value: int, shard: int = 0, **labels: str) -> None:
        self.connection.execute(
            "INSERT INTO ledger.metric_total VALUES (%s, %s, %s, %s)", (name, json.dumps(labels), shard, value)
        )

    def rows(self, where: str = "true", *values: Any, order: str = "occurred_at DESC, entry_id DESC") -> list[dict]:
        cursor = self.connection.cursor(row_factory=psycopg.rows.dict_row)
        names = ", ".join(COLUMNS)
        query = f"SELECT {names} FROM ledger.entries WHERE {where} ORDER BY {order}"
        return cursor.execute(query, values).fetchall()


def _json(value: dict[str, Any]) -> str | None:
    return json.dumps(value) if value else None


def _claim_source(claim: Claim | None) -> str | None:
    if claim is None:
        return None
    return "platform" if claim.is_platform else "byok"


def at(**ahead: float) -> datetime:
    return T0 + timedelta(**ahead)


def seed_company(books: Books) -> None:
    """Two organizations, three people, two teams, every type of event, and one correction."""
    books.rate_cards()
    books.plan("acme", "pro")
    books.plan("other", "enterprise")
    books.credential("k-team", "acme", "team", "red")
    books.credential("k-ann", "acme", "personal", "ann", end="2026-05-01T12:00:20Z")
    books.credential("k-other", "other", "organization", "other")
    people = [("ann", None), ("ann", "red"), ("bob", "red"), ("bob", "blue"), ("cid", None)]
    for index in range(40):
        user, team = people[index % len(people)]
        # Some share an instant, so that a page may end between them.
        when = at(seconds=index // 3, microseconds=index // 3)
        books.book(
            f"e{index}", user_id=user, team_id=team, occurred_at=when, calls=1 + index % 4, run_id=f"r{index % 7}"
        )
    books.book(
        "tokens",
        type=EventType.TOKEN_USAGE,
        agent_id="agent-1",
        input_tokens=1_234,
        cached_input_tokens=234,
        output_tokens=77,
        occurred_at=at(days=1),
    )
    books.book("tool", type=EventType.TOOL_CALL, tool="=cmd|' /C calc'!A0", calls=3, occurred_at=at(days=2))
    books.book("run", type=EventType.WORKFLOW_RUN, workflow_id="w1", run_id="r1", occurred_at=at(days=40))
    late = books.book("late", user_id="dan", team_id="green", occurred_at=at(days=3), calls=2)
    books.credential("k-dan", "acme", "personal", "dan")
    books.correct(late)
    for index in range(5):
        books.book(f"o{index}", org_id="other", user_id="ann", team_id="red", occurred_at=at(minutes=index))
