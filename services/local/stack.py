"""The whole stack on one machine: PostgreSQL, the broker and the four services, as children of this process."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from services.local.accounts import Accounts
from services.local.children import Readiness, foreign_environment, listens, service_program, upgrade_program
from services.local.data_dir import DataDir
from services.local.dev_tokens import create_signing_key
from services.local.embedded.broker import JOURNAL, broker_program, journal_arguments, new_cluster_id
from services.local.embedded.databases import LOGIN_ROLES, prepare_databases
from services.local.embedded.postgres import SUPERUSER, Postgres
from services.local.endpoints import Endpoints, Ports
from services.local.people import Person, personas
from services.local.processes import Child, StackError, StopSwitch, Supervisor
from services.local.wiring import SERVICES, Wiring
from services.runtime.private_file import write_private

_START_SECONDS = 60.0
_LEFTOVER_SECONDS = 15.0
_BYOK = (sys.executable, "-m", "services")


def _create_topics(bootstrap: str) -> None:
    from services.runtime.kafka_access import KafkaAccess
    from services.runtime.topics import create_topics  # the Kafka client takes a while to import

    create_topics(KafkaAccess(bootstrap), replication_factor=1)


@dataclass(frozen=True)
class Commands:
    """What the stack runs beside PostgreSQL and the broker; tests put small programs in their place."""

    upgrade: tuple[str, ...]
    services: Mapping[str, tuple[str, ...]]
    """By name, in the order of their start."""
    create_topics: Callable[[str], None] = _create_topics
    journal: tuple[str, ...] = JOURNAL


BYOK_COMMANDS = Commands(upgrade=(*_BYOK, "db", "upgrade"), services={name: (*_BYOK, name) for name in SERVICES})


class Stack:
    """A context manager: starts everything on entry, stops everything on exit. For the main thread only."""

    def __init__(
        self,
        data_dir: Path,
        port_base: int | None = None,
        *,
        commands: Commands | None = None,
        switch: StopSwitch | None = None,
        report: Callable[[str], None] = lambda _: None,
        people: Sequence[Person] = (),
    ) -> None:
        """``port_base`` None: any free ports. ``report`` hears, in a few words, what is being started; ``people`` are
        whom one can be in the console."""
        self._data = DataDir(data_dir)
        self._port_base = port_base
        self._commands = commands or BYOK_COMMANDS
        self._switch = switch or StopSwitch()
        self._report = report
        self._people = people
        self._supervisor = Supervisor(self._data.logs, self._switch)
        self._postgres: Postgres | None = None
        self._running: tuple[Wiring, Endpoints] | None = None
        self.notices: list[str] = []
        """What an operator should know of how it was started, a line each."""
        self.pause: str | None = None
        """What metering said when it started paused; None where it did not."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def endpoints(self) -> Endpoints:
        """Where everything is. Raises StackError unless started."""
        return self._started()[1]

    @property
    def environment_file(self) -> Path:
        """What ``environment`` says, and how to replay and to read the ledger, for shells; only we can read it."""
        return self._data.secrets / "env"

    @property
    def owes(self) -> bool:
        """Whether usage that was acknowledged may not be booked yet: whether the journal has files."""
        return any(self._data.journal.glob("*"))

    def environment(self) -> dict[str, str]:
        """The BYOK_ settings by which a program of ours finds this stack. Raises StackError unless started."""
        return self._started()[0].environment()

    def start(self) -> None:
        """Start everything; return when it is ready to meter.

        Raises StackError when it cannot, StopRequested when a stop was asked for meanwhile; nothing runs then.
        """
        try:
            self._start(time.monotonic() + _START_SECONDS)
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Return when a stop is asked for. Raises StackError when a child crashes first."""
        self._supervisor.watch()

    def stop(self) -> None:
        """Stop everything, within 30 s; safe to call again."""
        self._running = None
        self._supervisor.stop()
        if self._postgres:
            self._postgres.close()
        self._data.unlock()

    def _started(self) -> tuple[Wiring, Endpoints]:
        if self._running is None:
            raise StackError("the stack is not running")
        return self._running

    def _start(self, deadline: float) -> None:
        self._claim_data(deadline)
        signing_key = create_signing_key(self._data.secrets)
        wiring = Wiring(
            ports=Ports.free_block() if self._port_base is None else Ports.from_base(self._port_base),
            passwords=self._data.passwords((SUPERUSER, *LOGIN_ROLES)),
            kek_file=self._data.kek_file(),
            signing_key=signing_key,
            session_key_file=self._data.session_key_file(),
            personas_file=self._data.personas_file(personas(self._people, signing_key.key_file, datetime.now(UTC))),
        )
        self._start_postgres(wiring, deadline)
        journal = self._start_broker(wiring, deadline)
        self._report("database schemas")
        upgrade = upgrade_program(self._commands.upgrade, wiring.owner_environment(), self._data.root)
        self._supervisor.run(upgrade, deadline)
        self._prepare_broker(wiring, journal, deadline)
        self._start_services(wiring, time.monotonic() + _START_SECONDS)
        lines = (f"{name}={shlex.quote(value)}\n" for name, value in wiring.operator_environment().items())
        write_private(self.environment_file, "".join(lines))
        self._running = wiring, wiring.endpoints(datetime.now(UTC))

    def _claim_data(self, deadline: float) -> None:
        self._data.create()
        self._data.lock_as_owner()
        self._supervisor.wait_until(
            self._data.try_lock_for_children,
            min(deadline, time.monotonic() + _LEFTOVER_SECONDS),
            lambda: f"a process of an earlier stack on {self._data.root} does not end; end it first",
        )
        self._supervisor.keep_open = self._data.inherited

    def _start_postgres(self, wiring: Wiring, deadline: float) -> None:
        self._report("PostgreSQL")
        postgres = Postgres(
            self._data.postgres, wiring.ports.postgres, wiring.passwords[SUPERUSER], foreign_environment()
        )
        self._postgres = postgres
        postgres.initialize(self._supervisor, deadline)
        child = self._supervisor.start(postgres.program())
        self._supervisor.wait_until(postgres.answers, deadline, lambda: child.report("does not answer"))
        with postgres.connect() as admin:
            prepare_databases(admin, wiring.passwords)
        accounts = Accounts(self._data, postgres.account)
        self._supervisor.prepare, self.notices = accounts.prepare, accounts.notices

    def _start_broker(self, wiring: Wiring, deadline: float) -> Child:
        """Start the broker, and the journal before it, which takes a while to come up; returns the journal."""
        self._report("broker")
        ports, cluster_id = wiring.ports, new_cluster_id()
        broker = self._supervisor.start(
            broker_program(
                ports.broker,
                self._data.root,
                foreign_environment(),
                advertised_port=ports.kafka,
                cluster_id=cluster_id,
            )
        )
        self._wait_for_listener(broker, ports.broker, deadline)
        arguments = journal_arguments(ports.kafka, ports.broker, cluster_id, self._data.journal)
        command = (*self._commands.journal, *arguments)
        return self._supervisor.start(service_program("journal", command, wiring.environment(), self._data.root))

    def _prepare_broker(self, wiring: Wiring, journal: Child, deadline: float) -> None:
        # It listens when what earlier runs left is with the broker again, before anything that comes now; however long
        # that takes, for a start that gives up would never get there.
        if self.owes:
            self._report("journal, which sends again what is not booked")
            deadline = math.inf
        self._wait_for_listener(journal, wiring.ports.kafka, deadline)
        self._supervisor.wait_for_call(
            lambda: self._commands.create_topics(wiring.ports.address("kafka")),
            time.monotonic() + _START_SECONDS,
            lambda: "the topics could not be created",
        )

    def _wait_for_listener(self, child: Child, port: int, deadline: float) -> None:
        self._supervisor.wait_until(lambda: listens(port), deadline, lambda: child.report("does not listen"))

    def _start_services(self, wiring: Wiring, deadline: float) -> None:
        self._report(", ".join(self._commands.services))
        # All at once: most of their start is importing, and none needs another to begin.
        children = [
            self._supervisor.start(service_program(name, command, wiring.service_environment(name), self._data.root))
            for name, command in self._commands.services.items()
        ]
        for child in children:
            ready = Readiness(wiring.ports._asdict()[child.program.name])
            self._supervisor.wait_until(ready, deadline, partial(_not_ready, child, ready))
            self.pause = self.pause or ready.pause


def _not_ready(child: Child, ready: Readiness) -> str:
    return child.report(f"is not ready ({ready.last_answer})")
