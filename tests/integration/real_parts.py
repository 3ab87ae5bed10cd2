"""A real PostgreSQL and a real broker, each on its own, for tests of one service's parts."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from services.local.children import listens
from services.local.embedded.broker import broker_program
from services.local.embedded.databases import LOGIN_ROLES, prepare_databases
from services.local.embedded.postgres import Postgres
from services.local.endpoints import LOOPBACK, Ports
from services.local.processes import Child, StopSwitch, Supervisor
from services.runtime.kafka_access import KafkaAccess
from services.runtime.topics import create_topics
from tests.patience import PATIENCE_SECONDS

PASSWORDS = {role: f"of-{role}" for role in LOGIN_ROLES}


class Database:
    """A PostgreSQL server with our roles."""

    def __init__(self, server: Postgres, port: int, supervisor: Supervisor) -> None:
        self.server = server
        self._port = port
        self._supervisor = supervisor
        self._child: Child | None = None

    def start(self) -> None:
        """Start it, also again."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        self._child = child = self._supervisor.start(self.server.program())
        self._supervisor.wait_until(self.server.answers, deadline, lambda: child.report("does not answer"))

    def stop(self) -> None:
        """Take it away, as an operator would."""
        self._supervisor.stop()

    def dsn(self, role: str, database: str) -> str:
        """How ``role`` reaches ``database``."""
        return f"postgresql://{role}:{PASSWORDS[role]}@{LOOPBACK}:{self._port}/{database}"

    def create(self, name: str, owner: str, *, template: str = "template1") -> None:
        """Make an empty database, or a copy of ``template``."""
        with self.server.connect() as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {owner}")

    def disconnect_all(self, role: str) -> None:
        """End every session of ``role``, as a restart of the server would."""
        with self.server.connect() as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (role,))


@contextmanager
def running_postgres(folder: Path) -> Iterator[Database]:
    """A server on a port of its own; its files lie in ``folder``."""
    port = Ports.free_block().postgres
    supervisor = Supervisor(folder, StopSwitch())
    server = Postgres(folder / "postgres", port, "made-up", dict(os.environ))
    database = Database(server, port, supervisor)
    try:
        server.initialize(supervisor, time.monotonic() + PATIENCE_SECONDS)
        database.start()
        with server.connect() as admin:
            prepare_databases(admin, PASSWORDS)
            commit_quickly(admin)
        yield database
    finally:
        supervisor.stop()
        server.close()


def commit_quickly(admin: psycopg.Connection[Any]) -> None:
    """Let no transaction wait for the disk of this machine: nobody needs these data after a power cut."""
    admin.execute("ALTER SYSTEM SET synchronous_commit = off")
    admin.execute("SELECT pg_reload_conf()")


@contextmanager
def running_broker(folder: Path) -> Iterator[str]:
    """An embedded broker with our topics; yields ``host:port``."""
    ports = Ports.free_block()
    supervisor = Supervisor(folder, StopSwitch())
    try:
        broker = supervisor.start(broker_program(ports.kafka, folder, dict(os.environ)))
        deadline = time.monotonic() + PATIENCE_SECONDS
        supervisor.wait_until(lambda: listens(ports.kafka), deadline, lambda: broker.report("does not answer"))
        create_topics(KafkaAccess(ports.address("kafka")), replication_factor=1)
        yield ports.address("kafka")
    finally:
        supervisor.stop()
