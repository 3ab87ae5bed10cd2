"""An embedded broker behind a TCP proxy: a test can take it away, bring it back, or put another in its place."""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

from kafka import KafkaConsumer, TopicPartition

from schemas.topics import REGISTRY_CHANGES
from services.local.embedded.broker import broker_program
from services.local.processes import Child
from services.runtime.kafka_access import KafkaAccess
from services.runtime.topics import create_topics
from tests.patience import PATIENCE_SECONDS


def free_port() -> int:
    """A port on loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Proxy:
    """Forwards connections to ``target``; with ``target`` None it drops them all."""

    def __init__(self) -> None:
        self.target: int | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def point_to(self, target: int | None) -> None:
        """Cut every connection; new ones go to ``target``."""
        with self._lock:
            self.target = target
            for pair in self._pairs:
                for end in pair:
                    # Wakes the thread that waits on it, which closes it.
                    try:
                        end.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        continue
            self._pairs.clear()

    def close(self) -> None:
        """End everything."""
        self.point_to(None)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                pair = self._connected(client)
            if pair is None:
                client.close()
            else:
                threading.Thread(target=_pump, args=pair, daemon=True).start()

    def _connected(self, client: socket.socket) -> tuple[socket.socket, socket.socket] | None:
        if self.target is None:
            return None
        try:
            pair = client, socket.create_connection(("127.0.0.1", self.target), timeout=PATIENCE_SECONDS)
        except OSError:
            return None
        self._pairs.append(pair)
        return pair


def _pump(left: socket.socket, right: socket.socket) -> None:
    other = {left: right, right: left}
    with left, right, selectors.DefaultSelector() as selector:
        for end in other:
            selector.register(end, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                end = key.fileobj  # type: ignore[assignment]
                try:
                    data = end.recv(65_536)
                    if not data:
                        return
                    other[end].sendall(data)
                except OSError:
                    return


class ProxiedBroker:
    """Brokers, one at a time, that all seem to be at the proxy's address."""

    def __init__(self, folder: Path) -> None:
        self.proxy = Proxy()
        self.bootstrap = f"127.0.0.1:{self.proxy.port}"
        self._folder = folder
        self._child: Child | None = None
        self._port = 0

    def start_new(self) -> None:
        """A new, empty broker with a cluster id of its own, in place of the one before."""
        self.away()
        self._stop()
        self._port = free_port()
        program = broker_program(self._port, self._folder, os.environ)
        command = list(program.command)
        command[command.index("--kafka-advertised-listener-url") + 1] = f"tcp://{self.bootstrap}"
        self._child = Child(replace(program, command=tuple(command)), self._folder / "broker.log")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_SECONDS).close()
                break
            except OSError:
                assert time.monotonic() < deadline, self._child.report("does not listen")
                time.sleep(0.01)
        self.back()
        create_topics(KafkaAccess(self.bootstrap), [REGISTRY_CHANGES], replication_factor=1)

    def away(self) -> None:
        """Make it unreachable; it goes on running."""
        self.proxy.point_to(None)

    def back(self) -> None:
        """Make it reachable again."""
        self.proxy.point_to(self._port)

    def close(self) -> None:
        """End everything."""
        self.proxy.close()
        self._stop()

    def records(self, count: int) -> list[tuple[str, bytes]]:
        """Key and value of the first ``count`` records of the log's topic, as soon as there are so many."""
        partition = TopicPartition(REGISTRY_CHANGES.name, 0)
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False)
        consumer.assign([partition])
        consumer.seek(partition, 0)
        found: list[tuple[str, bytes]] = []
        deadline = time.monotonic() + PATIENCE_SECONDS
        try:
            while len(found) < count:
                assert time.monotonic() < deadline, f"{len(found)} of {count} records"
                for records in consumer.poll(timeout_ms=100).values():
                    found += [(record.key.decode(), record.value) for record in records]
        finally:
            consumer.close()
        return found

    def _stop(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None
