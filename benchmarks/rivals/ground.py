"""What all contenders run on: one broker, one PostgreSQL, the registry of keys, and the keys as they stand now."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from brokers import stack_on
from ledger_owner import owner_dsn
from rivals.contenders import Contender
from rivals.programs.agreed import SCHEMA
from workload import SINCE

from services.cli.demo.registration import Api
from services.domain.scope import ScopeType
from services.local.stack import Stack

TEAM = "team"
PROVIDER = "openai"
_TABLE = """
CREATE TABLE {schema}.{table} (
  event_id text, org_id text, charged_mc bigint, saved_mc bigint,
  written_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""


@dataclass(frozen=True)
class Ground:
    """Everything that is the same for all of them."""

    folder: Path
    stack: Stack
    kafka: str
    broker: str
    """The broker as people call it."""
    dsn: str
    """The owner of the ledger's database, in whose place the rivals write."""
    database: psycopg.Connection[Any]

    @property
    def prices(self) -> Path:
        """The file in which the rivals find prices."""
        return self.folder / "prices.json"

    @property
    def registry(self) -> Api:
        """The key registry's HTTP API."""
        return Api(self.stack.endpoints.registry_url, self.stack.endpoints.tokens.platform)

    def environment(self) -> dict[str, str]:
        """The settings of our own worker."""
        return self.stack.environment() | {"BYOK_KAFKA_BOOTSTRAP": self.kafka}

    def make_tables(self, contenders: Iterable[Contender]) -> None:
        """A table for each rival, all alike and without an index, and one of the keys that there are."""
        self.database.execute(f"CREATE SCHEMA {SCHEMA}")
        self.database.execute(f"CREATE TABLE {SCHEMA}.own_key (key text PRIMARY KEY)")
        for contender in contenders:
            if contender.table:
                self.database.execute(_TABLE.format(schema=SCHEMA, table=contender.table))

    def clear(self, contender: Contender) -> None:
        """Empty the table of a rival, so that counting what is in it takes no time."""
        if contender.table:
            self.database.execute(f"TRUNCATE {SCHEMA}.{contender.table}")

    def entitle(self, org_id: str) -> None:
        """An organization on a plan with own keys, for as long as there is usage."""
        self.registry.call("PUT", f"/v1/organizations/{org_id}/plan", {"plan": "pro", **SINCE})

    def add_key(self, org_id: str, effective_from: str | None = None) -> str:
        """A key of the organization's team, from now on or from earlier; its id."""
        body = {
            "org_id": org_id,
            "scope": {"type": ScopeType.TEAM.value, "id": TEAM},
            "provider": PROVIDER,
            "api_key": f"sk-bench-{org_id:0>20}",
            **({"effective_from": effective_from} if effective_from else {}),
        }
        credential_id: str = self.registry.call("POST", "/v1/credentials", body)["credential_id"]
        self.database.execute(f"INSERT INTO {SCHEMA}.own_key VALUES (%s)", (_key(org_id),))
        return credential_id

    def end_key(self, org_id: str, credential_id: str) -> None:
        """The key ends now."""
        self.registry.call("DELETE", f"/v1/credentials/{credential_id}")
        self.database.execute(f"DELETE FROM {SCHEMA}.own_key WHERE key = %s", (_key(org_id),))


def _key(org_id: str) -> str:
    return f"{org_id}/{TEAM}/{PROVIDER}"


@contextmanager
def laid(broker: str) -> Iterator[Ground]:
    """Start it all in a folder that goes with it; ``broker`` is ``embedded`` or ``apache``.

    Raises StackError, and KafkaUnavailableError where Apache Kafka cannot run.
    """
    with tempfile.TemporaryDirectory(prefix="byok-rivals-") as name:
        folder = Path(name)
        # The registry alone: the workers are started one by one, and nobody asks the ledger's service.
        with stack_on(broker, folder, ["registry"]) as (stack, kafka, called):
            dsn = owner_dsn(stack.endpoints.ledger_dsn, folder / "stack")
            with psycopg.connect(dsn, autocommit=True) as database:
                yield Ground(folder, stack, kafka, called, dsn, database)
