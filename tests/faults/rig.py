"""Everything a fault can hit, as real processes: PostgreSQL, Apache Kafka, the registry, and metering workers.

The services reach PostgreSQL and Kafka through proxies; the tests themselves go there directly. All is started and
stopped from the main thread, for a child dies with the thread that started it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
from prometheus_client.parser import text_string_to_metric_families
from psycopg.rows import TupleRow, dict_row

from services.local.children import Readiness, foreign_environment, service_program, upgrade_program
from services.local.data_dir import DataDir
from services.local.dev_tokens import create_signing_key
from services.local.embedded.databases import LOGIN_ROLES, prepare_databases
from services.local.embedded.postgres import MAINTENANCE_DATABASE, SUPERUSER, Postgres
from services.local.endpoints import LOOPBACK, Ports
from services.local.processes import Account, Child, StopSwitch, Supervisor
from services.local.wiring import Wiring
from services.runtime.kafka_access import KafkaAccess
from services.runtime.topics import create_topics
from tests.faults.proxy import Proxy
from tests.kafka.apache_kafka import ApacheKafka
from tests.kafka.cluster import ApacheCluster
from tests.patience import PATIENCE_SECONDS, wait_for

_LEDGER_ROLES = {"BYOK_LEDGER_DSN": "ledger_service", "BYOK_LEDGER_ADMIN_DSN": "ledger_owner"}
_BYOK = (sys.executable, "-m", "services")


class Service:
    """One of our own programs, which can be started, stopped, killed, and held."""

    def __init__(self, name: str, kind: str, environment: dict[str, str], port: int, folder: Path) -> None:
        """``kind`` is the command of `byok`; ``port`` is where it answers on /readyz."""
        self.name = name
        self.url = f"http://{LOOPBACK}:{port}"
        self._folder = folder
        self._ready = Readiness(port)
        self._program = replace(service_program(kind, (*_BYOK, kind), environment, folder), name=name)
        self._child: Child | None = None

    @property
    def log_file(self) -> Path:
        """What it has said, in all its lives."""
        return self._folder / f"{self.name}.log"

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self._child is not None and self._child.exit_status is None

    @property
    def ready(self) -> bool:
        """Whether it runs and says that it can do its work."""
        return self.running and self._ready()

    @property
    def exit_status(self) -> int | None:
        """How it ended by itself; None while it runs, and when it was ended by us."""
        return None if self._child is None else self._child.exit_status

    def samples(self, metric: str) -> dict[tuple[str, ...], float]:
        """The values of a metric that it serves, by the values of its labels in the order of their names."""
        text = httpx.get(f"{self.url}/metrics", timeout=PATIENCE_SECONDS).text
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == metric
        }

    @property
    def missing(self) -> set[str] | None:
        """What it lacks, by its own account; None where it does not answer."""
        said = self.said
        return None if said is None else set(said)

    @property
    def said(self) -> dict[str, str] | None:
        """The same in its words."""
        try:
            missing: dict[str, str] = (
                httpx.get(f"{self.url}/readyz", timeout=PATIENCE_SECONDS).json().get("missing", {})
            )
        except httpx.TransportError:
            return None
        return missing

    def start(self) -> None:
        """Start it; it may not be ready for a while."""
        self._child = Child(self._program, self.log_file)

    def wait_ready(self) -> None:
        """Wait until it is ready."""
        wait_for(f"{self.name} to be ready; see {self.log_file}", lambda: self.ready)

    def wait_exit(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit status, once it has ended by itself."""
        wait_for(f"{self.name} to end", lambda: self.exit_status is not None, seconds)
        return self.exit_status or 0

    def stop(self) -> None:
        """End it as an operator would."""
        self.let_go()
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """kill -9."""
        self._signal(signal.SIGKILL)
        self.stop()

    def hold(self) -> None:
        """SIGSTOP: it lives, and does nothing."""
        self._signal(signal.SIGSTOP)

    def let_go(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None and self._child.exit_status is None:
            os.killpg(self._child.pid, number)


class PostgresServer:
    """The embedded PostgreSQL on a port of its own."""

    def __init__(self, data: DataDir, passwords: dict[str, str]) -> None:
        self.port = Ports.free_block().postgres
        self._logs = data.logs
        self._server = Postgres(data.postgres, self.port, passwords[SUPERUSER], foreign_environment())
        self._child: Child | None = None
        self._server.initialize(Supervisor(data.logs, StopSwitch()), time.monotonic() + PATIENCE_SECONDS)
        self.start()
        with self._server.connect() as admin:
            prepare_databases(admin, passwords)

    def start(self) -> None:
        """Start it, also again."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        self._child = Child(self._server.program(), self._logs / "postgres.log")
        while not self._server.answers():
            # The shared memory of one that was killed may still be there for a moment.
            if self._child.crashed:
                self._child = Child(self._server.program(), self._logs / "postgres.log")
            if time.monotonic() > deadline:
                raise AssertionError(self._child.report("does not answer"))
            time.sleep(0.05)

    def kill(self) -> None:
        """Every process of it at once, as a failing machine would."""
        if self._child is not None:
            for pid in (self._child.pid, *_children_of(self._child.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._child.stop()
            self._child = None

    def create(self, database: str, owner: str) -> None:
        """Make an empty database."""
        with self._server.connect() as admin:
            admin.execute(f"CREATE DATABASE {database} OWNER {owner}")

    def connect(self, database: str = MAINTENANCE_DATABASE) -> psycopg.Connection[TupleRow]:
        """A connection of the superuser, past the proxy."""
        return self._server.connect(database)

    @property
    def account(self) -> Account | None:
        """As whom it runs; None: as we do."""
        return self._server.account

    def stop(self) -> None:
        """End it as an operator would; safe to call again."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        self._server.close()


def _children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Rig:
    """The parts, wired up. ``with running_rig(folder)`` starts them."""

    def __init__(self, folder: Path, *, clustered: bool = False) -> None:
        """``clustered``: three brokers, which the services reach without proxies."""
        self.data = DataDir(folder)
        self.data.create()
        # Two ways to Kafka, so that the log of the registry can be late while usage is not; and one to PostgreSQL.
        self.worker_kafka, self.registry_kafka, self.database = Proxy(), Proxy(), Proxy()
        self.cluster = ApacheCluster(folder / "kafka") if clustered else None
        proxies = [self.worker_kafka.port, self.registry_kafka.port]
        self.kafka = self.cluster or ApacheKafka(folder / "kafka", advertised=proxies)
        self._folder = folder
        self.passwords = self.data.passwords((SUPERUSER, *LOGIN_ROLES))
        self._workers: dict[str, Service] = {}

    def start(self) -> None:
        """PostgreSQL and Kafka, migrated and with their topics; no service yet."""
        with ThreadPoolExecutor(1) as beside:
            formatting = beside.submit(self.kafka.prepare)
            self.postgres = PostgresServer(self.data, self.passwords)
            formatting.result()
        self.kafka.launch()
        self.restore()
        ports = Ports.free_block()._replace(kafka=self.worker_kafka.port, postgres=self.database.port)
        self.wiring = Wiring(
            ports,
            self.passwords,
            self.data.kek_file(),
            create_signing_key(self.data.secrets),
            self.data.session_key_file(),
            self.data.personas_file(()),
        )
        self._upgrade(self.wiring.owner_environment())
        self.kafka.wait()
        create_topics(KafkaAccess(self.kafka.bootstrap), replication_factor=self.kafka.replication_factor)
        self.registry = Service("registry", "registry", self.registry_environment(), ports.registry, self.data.logs)

    def _upgrade(self, environment: dict[str, str]) -> None:
        program = upgrade_program((*_BYOK, "db", "upgrade"), environment, self._folder)
        Supervisor(self.data.logs, StopSwitch()).run(program, time.monotonic() + PATIENCE_SECONDS)

    def environment(self, **changes: str) -> dict[str, str]:
        """The settings of a service of ours, with ``changes``."""
        return self.wiring.environment() | self._cluster_settings | changes

    @property
    def _cluster_settings(self) -> dict[str, str]:
        return {} if self.cluster is None else {"BYOK_KAFKA_BOOTSTRAP": self.cluster.bootstrap}

    def registry_environment(self) -> dict[str, str]:
        """The settings of the registry."""
        login = {"BYOK_LEDGER_DSN": self.wiring.service_environment("registry")["BYOK_LEDGER_DSN"]}
        own_way = {} if self.cluster else {"BYOK_KAFKA_BOOTSTRAP": f"{LOOPBACK}:{self.registry_kafka.port}"}
        return self.environment(**login, **own_way)

    def worker(self, name: str = "worker-1") -> Service:
        """A metering worker, not started by this."""
        if name not in self._workers:
            port = Ports.free_block().metering
            environment = self.environment() | {"BYOK_METERING_PORT": str(port)}
            self._workers[name] = Service(name, "metering", environment, port, self.data.logs)
        return self._workers[name]

    def fresh_worker(self, database: str) -> Service:
        """A worker in a group of its own, on a ledger of its own in which nothing is."""
        self.postgres.create(database, "ledger_owner")
        own = {name: self._dsn(role, database) for name, role in _LEDGER_ROLES.items()}
        self._upgrade(self.wiring.owner_environment() | own)
        port = Ports.free_block().metering
        more = {"BYOK_METERING_PORT": str(port), "BYOK_CONSUMER_GROUP": database}
        self._workers[database] = Service(database, "metering", self.environment(**own, **more), port, self.data.logs)
        return self._workers[database]

    @property
    def logs(self) -> Path:
        """Where each process has its log."""
        return self.data.logs

    @property
    def workers(self) -> list[Service]:
        """Every worker that was ever asked for."""
        return list(self._workers.values())

    def restore(self) -> None:
        """Everything reachable again, without delay."""
        self.database.forward(self.postgres.port)
        if isinstance(self.kafka, ApacheKafka):
            for proxy, port in zip((self.worker_kafka, self.registry_kafka), self.kafka.proxied_ports, strict=True):
                proxy.forward(port)

    def byok(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """What an operator's command says, and how it ends, with ``changes`` to its settings."""
        environment = os.environ | self.wiring.operator_environment() | self._cluster_settings | changes
        return subprocess.run(
            (*_BYOK, *arguments), env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )

    def http(self, service: str = "registry") -> httpx.Client:
        """The API of the registry or the ledger, for one who may do everything."""
        endpoints = self.wiring.endpoints(datetime.now(UTC))
        headers = {"Authorization": f"Bearer {endpoints.tokens.platform}"}
        address = endpoints.ledger_url if service == "ledger" else endpoints.registry_url
        return httpx.Client(base_url=address, headers=headers, timeout=PATIENCE_SECONDS)

    def rows(self, statement: str, *parameters: Any, database: str = "ledger") -> list[dict[str, Any]]:
        """What a statement finds; asked directly, past the proxy."""
        with self.connect(database) as connection:
            return connection.execute(statement, parameters).fetchall()

    def connect(self, database: str = "ledger") -> psycopg.Connection[dict[str, Any]]:
        """A connection of the tables' owner, past the proxy."""
        owner = "registry_owner" if database == "registry" else "ledger_owner"
        return psycopg.connect(self._dsn(owner, database), autocommit=True, row_factory=dict_row)

    def _dsn(self, role: str, database: str) -> str:
        return f"postgresql://{role}:{self.passwords[role]}@{LOOPBACK}:{self.postgres.port}/{database}"

    def close(self) -> None:
        """End everything."""
        for service in (*self.workers, *([self.registry] if hasattr(self, "registry") else [])):
            service.kill()
        if hasattr(self, "postgres"):
            self.postgres.stop()
        self.kafka.kill()
        for proxy in (self.worker_kafka, self.registry_kafka, self.database):
            proxy.close()


@contextmanager
def running_rig(folder: Path, *, clustered: bool = False) -> Iterator[Rig]:
    """A rig with PostgreSQL and Kafka running."""
    rig = Rig(folder, clustered=clustered)
    try:
        rig.start()
        yield rig
    finally:
        rig.close()
