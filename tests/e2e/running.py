"""A stack as its users see it: command line, HTTP, Kafka and SQL, nothing of the inside."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from psycopg.rows import dict_row

from services.key_registry.providers.probes import PROBES
from services.local.endpoints import Ports
from tests.patience import PATIENCE_SECONDS, wait_for

USAGE = "byok.usage-events"


class Stack:
    """The running stack and what one needs to use it."""

    def __init__(self, process: subprocess.Popen[str], told: dict[str, Any], data_dir: Path) -> None:
        self.process = process
        self.told = told
        self.data_dir = data_dir
        self.registry = self._client("registry_url", "platform")
        self.ledger = self._client("ledger_url", "platform")
        self.console = httpx.Client(base_url=told["console_url"], follow_redirects=True, timeout=PATIENCE_SECONDS)
        self.sql = psycopg.connect(told["ledger_dsn"], autocommit=True, row_factory=dict_row)
        self.producer = KafkaProducer(bootstrap_servers=told["kafka"], acks="all")
        self._numbers = itertools.count()

    def _client(self, url: str, token: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.told['tokens'][token]}"}
        return httpx.Client(base_url=self.told[url], headers=headers, timeout=PATIENCE_SECONDS)

    def close(self) -> None:
        """Let go of every connection."""
        self.producer.close(timeout=1)
        self.sql.close()
        self.registry.close()
        self.ledger.close()
        self.console.close()

    def new_organization(self, plan: str | None = None, *, since: str = "2026-04-01T00:00:00Z") -> str:
        """An organization that no other test knows, on ``plan`` for a long time."""
        org_id = f"org-{uuid.uuid4().hex[:12]}"
        if plan is not None:
            self.set_plan(org_id, plan, since)
        return org_id

    def set_plan(self, org_id: str, plan: str, since: str | None = None) -> None:
        """The plan from ``since`` on, or from now."""
        body = {"plan": plan} | ({} if since is None else {"effective_from": since})
        self.registry.put(f"/v1/organizations/{org_id}/plan", json=body).raise_for_status()

    def add_key(self, org_id: str, scope: str, scope_id: str, provider: str, *, since: str | None = None) -> str:
        """Add a key and return its credential id."""
        body = {
            "org_id": org_id,
            "scope": {"type": scope, "id": scope_id},
            "provider": provider,
            "api_key": f"sk-test-{uuid.uuid4().hex}",
        }
        answer = self.registry.post("/v1/credentials", json=body | ({} if since is None else {"effective_from": since}))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["credential_id"])

    def settle(self) -> None:
        """Wait until metering has worked in every registry change that was answered."""
        with psycopg.connect(self.told["registry_dsn"]) as registry:
            head = registry.execute("SELECT last_seq FROM registry.log_head").fetchone()
        query = "SELECT 1 FROM ledger.fence WHERE rerated_seq >= %s"
        wait_for(f"registry change {head}", lambda: self.sql.execute(query, head).fetchone())

    def send(self, value: bytes | None, org_id: str, partition: int | None = None) -> tuple[int, int]:
        """One record with exactly these bytes; where it went."""
        sent = self.producer.send(USAGE, value=value, key=org_id.encode(), partition=partition).get(PATIENCE_SECONDS)
        return sent.partition, sent.offset

    def publish(self, *events: dict[str, Any]) -> tuple[int, int]:
        """The events as one record."""
        value = events[0] if len(events) == 1 else list(events)
        return self.send(json.dumps(value).encode(), events[0]["data"]["org_id"])

    def entries(self, org_id: str, how_many: int = 0) -> list[dict[str, Any]]:
        """All entries of an organization in the order of their booking, once there are at least ``how_many``."""
        query = "SELECT * FROM ledger.entries WHERE org_id = %s ORDER BY event_id, revision, kind DESC"

        def look() -> list[dict[str, Any]] | None:
            rows = self.sql.execute(query, (org_id,)).fetchall()
            return rows if len(rows) >= how_many else None

        return wait_for(f"{how_many} entries of {org_id}", look) if how_many else look() or []

    def settled(self, org_id: str, events: int) -> dict[str, dict[str, Any]]:
        """The last word on each of ``events`` events, by event id, once the re-rater has seen everything."""
        query = "SELECT count(*) AS charges FROM ledger.entries WHERE org_id = %s AND kind = 'charge'"

        def all_charged() -> bool:
            row = self.sql.execute(query, (org_id,)).fetchone()
            return row is not None and row["charges"] >= events

        wait_for(f"{events} charges of {org_id}", all_charged)
        self.settle()
        return {entry["event_id"]: entry for entry in self.entries(org_id) if entry["kind"] != "reversal"}

    def dead_letters(self, place: tuple[int, int], how_many: int = 1) -> list[dict[str, Any]]:
        """The dead letters of one record, once there are at least ``how_many``."""
        query = """SELECT * FROM ledger.dead_letters WHERE source_partition = %s AND source_offset = %s
                   ORDER BY source_index"""

        def look() -> list[dict[str, Any]] | None:
            rows = self.sql.execute(query, place).fetchall()
            return rows if len(rows) >= how_many else None

        return wait_for(f"{how_many} dead letters of {place}", look)

    def wait_covered(self, place: tuple[int, int]) -> None:
        """Wait until the record at ``place`` is booked, whatever became of it."""
        query = "SELECT 1 FROM ledger.source_partition WHERE partition = %s AND next_offset > %s"
        wait_for(f"record {place}", lambda: self.sql.execute(query, place).fetchone())

    def dead_letter_records(self, places: Sequence[tuple[int, int]]) -> list[tuple[dict[str, str], bytes, bytes]]:
        """Headers, key and value of the dead letters of these records on their topic."""
        consumer = KafkaConsumer(bootstrap_servers=self.told["kafka"], auto_offset_reset="earliest")
        consumer.assign([TopicPartition("byok.usage-dead-letters", number) for number in range(3)])
        found: list[tuple[dict[str, str], bytes, bytes]] = []
        wanted = {(str(partition), str(offset)) for partition, offset in places}

        def look() -> bool:
            for records in consumer.poll(200).values():
                for record in records:
                    headers = {name: value.decode() for name, value in record.headers}
                    if (headers["source-partition"], headers["source-offset"]) in wanted:
                        found.append((headers, record.key, record.value))
            return {(h["source-partition"], h["source-offset"]) for h, _, _ in found} == wanted

        wait_for(f"dead letters of {places}", look)
        consumer.close()
        return found


def node_call(org_id: str, **changes: Any) -> dict[str, Any]:
    """A node call on an advanced model; ``data`` in ``changes`` is merged."""
    data = {"org_id": org_id, "user_id": "ada", "node": "ask_ai", "provider": "anthropic", "model": "claude-sonnet-4-6"}
    return _event("usage.node_call.v1", data, changes)


def token_usage(org_id: str, **changes: Any) -> dict[str, Any]:
    """An agent's token usage: list 1.2 credits."""
    data = {
        "org_id": org_id,
        "user_id": "ada",
        "agent_id": "helper",
        "provider": "anthropic",
        "model": "claude-sonnet-4-6",
        "input_tokens": 1_000,
        "output_tokens": 200,
    }
    return _event("usage.token_usage.v1", data, changes)


def _event(event_type: str, data: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    extra = changes.pop("data", {})
    now = datetime.now(UTC).isoformat()
    event = {"specversion": "1.0", "id": uuid.uuid4().hex, "source": "tests", "type": event_type, "time": now}
    return event | changes | {"data": data | extra}


@contextmanager
def start_stack(data_dir: Path, *, port_base: int | None = None, **settings: str) -> Iterator[Stack]:
    """`byok up` on ``data_dir``, ready to meter; ended with SIGTERM. ``settings`` are variables of its environment."""
    base = Ports.free_block().kafka if port_base is None else port_base
    command = [sys.executable, "-m", "services", "up", "--data-dir", str(data_dir), "--port-base", str(base), "--json"]
    log_path = data_dir.with_name(f"{data_dir.name}-up.log")
    with log_path.open("a") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True, env=environment() | settings
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait(PATIENCE_SECONDS)
        raise AssertionError(f"byok up did not start:\n{log_path.read_text()[-4000:]}")
    running = Stack(process, json.loads(line), data_dir)
    try:
        yield running
    finally:
        running.close()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_SECONDS)


# No test sends a key, made up or not, to a real provider: whoever asks finds nobody at the discard port.
_NO_PROVIDERS = dict.fromkeys(PROBES, "http://127.0.0.1:9")


def environment() -> dict[str, str]:
    """The tests' own environment without settings of a stack that someone works with beside them."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("BYOK_")}
    return own | {"BYOK_PROVIDER_URLS": json.dumps(_NO_PROVIDERS)}
