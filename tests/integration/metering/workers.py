"""Parts of a metering worker put together for a test, on a real database and a real broker."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from kafka import KafkaProducer

from schemas.registry_changes import CredentialChange, PlanChange, RateCardChange, RegistryChange
from services.domain.directory import Directory
from services.key_registry.rate_cards import packaged_cards
from services.metering.booking.book_records import BookRecords
from services.metering.booking.ledger_writer import Booked, LedgerWriter
from services.metering.booking.pricing import Record
from services.metering.dead_letters.pauser import Pauser
from services.metering.dead_letters.share import Limit
from services.metering.registry_follower import RegistryFollower
from services.metering.rerating.rerater import Rerater
from services.metering.stream.gap_reader import GapReader
from services.runtime.database import connect
from services.runtime.kafka_access import KafkaAccess
from tests.patience import PATIENCE_SECONDS

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LONG_AGO = "2026-05-01T00:00:00Z"
NEVER = Limit(share=1, window_seconds=300, min_events=1)
"""The limit of a worker that never pauses by itself."""


def cards() -> list[RegistryChange]:
    """The first two cards that ship as the first changes of a registry log."""
    return [
        RateCardChange(seq=seq, changed_at=NOW, card=card.card, effective_from=card.effective_from, body=card.body)
        for seq, card in enumerate(packaged_cards()[:2], start=1)
    ]


def plan(seq: int, name: str, *, org_id: str = "acme", since: str = LONG_AGO) -> RegistryChange:
    """An organization's plan from ``since`` on."""
    plans = [{"plan": name, "from": since, "to": None}]
    return PlanChange.model_validate({"seq": seq, "changed_at": NOW, "org_id": org_id, "plans": plans})


def key(seq: int, *active: tuple[str, str | None], scope: str = "personal", owner: str = "ada") -> RegistryChange:
    """The history of one anthropic key of acme, named after its owner."""
    return CredentialChange.model_validate(
        {
            "seq": seq,
            "changed_at": NOW,
            "credential_id": f"key-of-{owner}",
            "org_id": "acme",
            "scope": {"type": scope, "id": owner},
            "provider": "anthropic",
            "hint": "…abcd",
            "active": [{"from": start, "to": end} for start, end in active],
        }
    )


def payloads(changes: Sequence[RegistryChange]) -> list[bytes]:
    """The changes as the registry would send them."""
    return [change.model_dump_json(by_alias=True).encode() for change in changes]


class Worker:
    """What one metering process has, without Faust: its directory, its connection, its positions."""

    def __init__(self, ledger_dsn: str, broker: str, topic: str, limit: Limit = NEVER) -> None:
        self.directory = Directory()
        self.follower = RegistryFollower(ledger_dsn, KafkaAccess(broker), self.directory)
        self.gaps = GapReader(KafkaAccess(broker), topic)
        self.booked: list[Booked] = []
        self.writer = LedgerWriter(ledger_dsn, "cluster-1", topic)
        self.pauser = Pauser(ledger_dsn, limit)
        self.book = BookRecords(
            self.writer,
            self.follower,
            self.gaps,
            self.pauser,
            clock=lambda: NOW,
            events_max=100,
            on_booked=lambda _records, booked: self.booked.append(booked),
        )

    async def learn(self, *changes: RegistryChange) -> None:
        """Take in registry changes as if they had just been read."""
        await self.follower.take_in(payloads(changes))
        await self.pauser.look()

    async def stop(self) -> None:
        """Let go of broker and database."""
        await self.gaps.stop()
        self.writer.close()
        self.pauser.close()


def node_call(event_id: str, **changes: Any) -> dict[str, Any]:
    """A node call of ada on an advanced model, long after the first cards."""
    data = {"org_id": "acme", "user_id": "ada", "node": "ask_ai", "provider": "anthropic", "model": "claude-sonnet-4-6"}
    event = {"specversion": "1.0", "id": event_id, "source": "s", "type": "usage.node_call.v1"}
    extra = changes.pop("data", {})
    return event | {"time": "2026-11-10T00:00:00Z"} | changes | {"data": data | extra}


def publish(broker: str, topic: str, partition: int, *values: object) -> list[Record]:
    """Write records to one partition of the usage events; what a consumer would be given."""
    with closing(KafkaProducer(bootstrap_servers=broker, acks="all")) as producer:
        records = []
        for value in values:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            sent = producer.send(topic, value=data, key=b"acme", partition=partition).get(PATIENCE_SECONDS)
            records.append(Record(partition, sent.offset, b"acme", data, sent.timestamp / 1000))
    return records


def rerate(ledger_dsn: str) -> None:
    """What the re-rater does between two naps."""
    with closing(connect(ledger_dsn, "test-rerater", autocommit=True)) as connection:
        Rerater(ledger_dsn).step(connection, threading.Event())
