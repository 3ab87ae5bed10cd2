"""Apache Kafka in KRaft mode on loopback, without Docker: nodes that are broker and controller, each on a folder.

For development and tests: it can be stopped, killed and started again on the same folder and ports, and small segments
and an eager cleaner make compaction happen within seconds. What `byok up` runs on is another broker, which forgets.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from services.local.children import foreign_environment, listens
from services.local.endpoints import LOOPBACK, Ports
from services.local.processes import Child, Program
from tests.kafka.jars import KafkaUnavailableError, fetch, java
from tests.patience import PATIENCE_SECONDS

_STOP = ((signal.SIGTERM, 15.0),)
# A small heap, and only the first compiler: it starts in half the time and is never busy for long.
_JVM = (
    "-Xms96m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
)
_LOG4J = """
Configuration:
  status: error
  Appenders:
    Console: {name: out, target: SYSTEM_OUT, PatternLayout: {pattern: "%d{ISO8601} %p %c{1}: %m%n"}}
  Loggers:
    Root: {level: warn, AppenderRef: [{ref: out}]}
"""
_SETTINGS = {
    "process.roles": "broker,controller",
    "inter.broker.listener.name": "DIRECT",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    # One node: nothing can be replicated, and nobody else can be waited for.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    # Quick to compact: the active segment is never cleaned, so it must not last.
    "log.segment.bytes": str(1024 * 1024),
    "log.index.size.max.bytes": str(64 * 1024),
    "log.cleaner.backoff.ms": "200",
    "log.cleaner.dedupe.buffer.size": str(4 * 1024 * 1024),
    "log.cleaner.min.cleanable.ratio": "0.01",
    "log.retention.check.interval.ms": "1000",
    # What a producer that died has left open is aborted soon: readers of committed records wait for it.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "2",
    "background.threads": "2",
    "controlled.shutdown.max.retries": "1",
    # One that was killed counts as alive for this long, and may not come back before.
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "300",
}


class Quorum(NamedTuple):
    """The controllers of a cluster: one on each node, whose number is its place among them, from 1 on."""

    cluster_id: str
    controller_ports: tuple[int, ...]

    @classmethod
    def of(cls, *controller_ports: int) -> Quorum:
        """A new cluster."""
        # As Kafka makes them, but for the first letter: a dash there would be taken for an option.
        return cls("b" + urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:].rstrip("="), controller_ports)

    @property
    def voters(self) -> str:
        """As the setting has them."""
        ports = enumerate(self.controller_ports, start=1)
        return ",".join(f"{number}@{LOOPBACK}:{port}" for number, port in ports)


class ApacheKafka:
    """One node on ``folder``. Start it from the main thread: it dies with the thread that started it."""

    replication_factor = 1

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        advertised: Sequence[int] = (),
        quorum: Quorum | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Alone, or of a ``quorum`` that has the port after ``port`` as one of its controllers.

        Clients of ``proxied_ports`` are sent on to the ``advertised`` ports, at most three, one by one: so what stands
        behind a proxy never learns of a way around it. ``settings`` come before those that are made for tests.
        """
        fetched = fetch()
        self._java = java()
        self._folder = folder.absolute()
        self._classpath = f"{self._folder}:{fetched}/*"
        ports = Ports.free_block() if port is None else Ports.from_base(port)
        self.port, self._controller_port, *spare = ports
        self._quorum = quorum or Quorum.of(self._controller_port)
        self.number = self._quorum.controller_ports.index(self._controller_port) + 1
        self._more_settings = settings
        self._advertised = tuple(advertised)
        self.proxied_ports = tuple(spare[: len(self._advertised)])
        self._child: Child | None = None

    @property
    def bootstrap(self) -> str:
        """``host:port`` of the node itself."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def log_file(self) -> Path:
        """What the node says."""
        return self._folder / "kafka.log"

    def start(self) -> None:
        """Start it, also again; return when it answers. Raises KafkaUnavailableError with its last words."""
        self.prepare()
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start what is prepared, without waiting for it."""
        self._child = Child(self._program(), self.log_file)

    def wait(self) -> None:
        """Return when it answers. Raises KafkaUnavailableError with its last words."""
        child, deadline = self._child, time.monotonic() + PATIENCE_SECONDS
        assert child is not None, "it was not launched"
        # Kafka opens its listeners only when it can serve.
        while not listens(self.port):
            if child.crashed or time.monotonic() > deadline:
                said = child.report("does not listen")
                self.stop()
                raise KafkaUnavailableError(said)
            time.sleep(0.05)

    def stop(self) -> None:
        """End it as an operator would; safe to call again."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """End it as a failing machine would."""
        self._signal(signal.SIGKILL)
        self.stop()

    def hold(self) -> None:
        """SIGSTOP: it keeps its connections, and does nothing."""
        self._signal(signal.SIGSTOP)

    def let_go(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            os.kill(self._child.pid, number)

    def _program(self) -> Program:
        return Program(
            name="kafka",
            command=(
                *(self._java, *_JVM, f"-Dlog4j2.configurationFile={self._folder / 'log4j2.yaml'}"),
                *("-cp", self._classpath, "kafka.Kafka", str(self._folder / "server.properties")),
            ),
            environment=_environment(),
            directory=self._folder,
            stop=_STOP,
        )

    def prepare(self) -> None:
        """Write the settings, and make the storage once; from any thread."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "log4j2.yaml").write_text(_LOG4J)
        settings = self._folder / "server.properties"
        settings.write_text("".join(f"{name}={value}\n" for name, value in self._settings().items()))
        if (self._folder / "data" / "meta.properties").exists():
            return
        command = (self._java, *_JVM, "-cp", self._classpath, "kafka.tools.StorageTool", "format")
        done = subprocess.run(
            (
                *(*command, "--ignore-formatted", "--cluster-id", self._quorum.cluster_id, "--config", str(settings)),
                *self._more_format_arguments(),
            ),
            capture_output=True,
            text=True,
            env=_environment(),
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise KafkaUnavailableError(f"the storage of Kafka cannot be formatted: {done.stdout}{done.stderr}")

    def _more_format_arguments(self) -> Sequence[str]:
        return ()

    def _settings(self) -> Mapping[str, str]:
        names = ["DIRECT", *(f"PROXIED{number}" for number in range(len(self._advertised)))]
        listens_on = _listeners(names, (self.port, *self.proxied_ports))
        controller = _listeners(["CONTROLLER"], (self._controller_port,))
        return {
            **_SETTINGS,
            **self._more_settings,
            "node.id": str(self.number),
            "controller.quorum.voters": self._quorum.voters,
            "listeners": f"{listens_on},{controller}",
            "advertised.listeners": _listeners(names, (self.port, *self._advertised)),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in (*names, "CONTROLLER")),
            "log.dirs": str(self._folder / "data"),
        }


def _listeners(names: Sequence[str], ports: Sequence[int]) -> str:
    return ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in zip(names, ports, strict=True))


def _environment() -> dict[str, str]:
    # KAFKA_ and JAVA_ options of the caller would change what is tested.
    return {k: v for k, v in foreign_environment().items() if not k.startswith(("KAFKA_", "JAVA_", "_JAVA", "JDK_"))}
