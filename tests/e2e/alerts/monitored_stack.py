"""A stack with two workers, Prometheus beside it, and customers who work on it all the time."""

from __future__ import annotations

import functools
import http.server
import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import yaml

from services.local.data_dir import DataDir
from services.local.embedded.postgres import SUPERUSER
from services.local.endpoints import Ports
from services.local.wiring import SERVICES
from tests.contract.test_deploy import PROMETHEUS
from tests.e2e.alerts.faster_rules import faster
from tests.e2e.alerts.prometheus_server import PrometheusServer, prometheus, prometheus_program
from tests.e2e.running import USAGE, Stack, environment, node_call, start_stack
from tests.faults.rig import Service
from tests.patience import PATIENCE_SECONDS, wait_for

SETTINGS: dict[str, Any] = {
    # So that a few events are enough for what takes a hundred thousand by default.
    "BYOK_METERING_PAUSE_MIN_EVENTS": "2000",
    "BYOK_METERING_PAUSE_WINDOW_SECONDS": "20",
    "BYOK_KAFKA_TIMEOUT_SECONDS": "5",
}
PROGRAMS = (*SERVICES, "the second worker", "node_exporter")
TIMES = 60
PATIENT = frozenset({"DatabaseAway"})
"""While a database hangs, services take seconds for their metrics: these need scrapes that last as long."""
PATIENT_TIMES = 12
_TRAFFIC_SECONDS = 0.1
_TOM = {"user_id": "tom", "team_id": "core"}
_PIA = {"user_id": "pia"}


class Traffic:
    """Customers with keys of their team and of their own, some of whom may hand in what they do late."""

    def __init__(self, stack: Stack) -> None:
        self.org_id = stack.new_organization("pro")
        long_ago = "2026-04-01T00:00:00Z"
        stack.add_key(self.org_id, "team", "core", "anthropic", since=long_ago)
        self.personal_key = stack.add_key(self.org_id, "personal", "pia", "anthropic", since=long_ago)
        self._producer = stack.producer
        self._late = timedelta(0)
        self._flows = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send_all_the_time, daemon=True)
        self._flows.set()
        self._thread.start()

    def _send_all_the_time(self) -> None:
        for number in itertools.count():
            if self._ended.wait(_TRAFFIC_SECONDS):
                return
            self._flows.wait()
            now = datetime.now(UTC)
            self._send(_PIA if number % 2 else _TOM, now)
            if self._late:
                self._send(_TOM, now - self._late)

    def _send(self, data: dict[str, str], at: datetime) -> None:
        value = json.dumps(node_call(self.org_id, time=at.isoformat(), data=data)).encode()
        self._producer.send(USAGE, value, self.org_id.encode(), timestamp_ms=int(at.timestamp() * 1000))

    def hand_in_late(self, by: timedelta) -> None:
        """From now on as many events come that their runners had already written down so long ago."""
        self._late = by

    def stop(self) -> None:
        """Nobody works."""
        self._flows.clear()

    def go_on(self) -> None:
        """They work again."""
        self._flows.set()

    def end(self) -> None:
        """For ever."""
        self._ended.set()
        self._flows.set()
        self._thread.join()


class Rig:
    """What a fault is made with."""

    def __init__(self, stack: Stack, worker: Service, textfiles: Path, traffic: Traffic) -> None:
        self.stack = stack
        self.worker = worker
        """The second one."""
        self.textfiles = textfiles
        self.traffic = traffic
        self.servers: tuple[PrometheusServer, ...] = ()

    def firing(self) -> set[str]:
        """The names of all alerts that fire now."""
        return {name for server in self.servers for name in server.firing()}

    def seen(self, name: str) -> set[tuple[tuple[str, str], ...]]:
        """With which labels it has fired."""
        return {labels for server in self.servers for labels in server.seen.get(name, ())}

    def forget(self, name: str) -> None:
        """What it fired for until now."""
        for server in self.servers:
            server.seen.pop(name, None)

    def wait_fired(self, name: str) -> None:
        """Until it has fired, be it for a moment, since it was forgotten."""
        wait_for(f"the alert {name}; firing: {sorted(self.firing())}", lambda: self.seen(name))

    def wait_silent(self, name: str) -> None:
        """Until it fires no more."""
        wait_for(f"the alert {name} to end", lambda: name not in self.firing())

    @contextmanager
    def as_superuser(self, database: str) -> Iterator[psycopg.Connection[Any]]:
        """A connection whose owner may do anything; triggers that keep rows as they are do not hold it."""
        passwords = DataDir(self.stack.data_dir).passwords((SUPERUSER,))
        told = psycopg.conninfo.conninfo_to_dict(self.stack.told["ledger_dsn"])
        login: dict[str, Any] = {"user": SUPERUSER, "password": passwords[SUPERUSER], "dbname": database}
        with psycopg.connect(psycopg.conninfo.make_conninfo(**(told | login)), autocommit=True) as admin:
            admin.execute("SET session_replication_role = replica")
            yield admin

    def run_as_superuser(self, database: str, *statements: LiteralString) -> None:
        """Each in a transaction of its own."""
        with self.as_superuser(database) as admin:
            for statement in statements:
                admin.execute(statement)

    def publish(self, *events: dict[str, Any]) -> None:
        """Each as a record of its own, acknowledged."""
        sent = [
            self.stack.producer.send(USAGE, json.dumps(event).encode(), event["data"]["org_id"].encode())
            for event in events
        ]
        for future in sent:
            future.get(PATIENCE_SECONDS)

    def byok(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command on this stack."""
        command = [sys.executable, "-m", "services", *arguments, "--data-dir", str(self.stack.data_dir)]
        return subprocess.run(
            command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    @contextmanager
    def held(self, *names: str) -> Iterator[None]:
        """These programs of the stack, by their names, live and do nothing: SIGSTOP."""
        children = _children(self.stack.process.pid)
        pids = [pid for name in names for pid in (children[name], *_descendants(children[name]))]
        _signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pids, signal.SIGCONT)


def _children(pid: int) -> dict[str, int]:
    """The children of `byok up` by the last word of their command, or the program's name."""
    lines = {child: Path(f"/proc/{child}/cmdline").read_text().rstrip("\0").split("\0") for child in _children_of(pid)}
    return {line[-1] if line[-1] in Ports._fields else Path(line[0]).name: child for child, line in lines.items()}


def _descendants(pid: int) -> list[int]:
    children = _children_of(pid)
    return [*children, *(each for child in children for each in _descendants(child))]


def _children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        # A session of the database may end at any time.
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def running_rig(folder: Path) -> Iterator[Rig]:
    """All of it, when Prometheus has seen every service and nothing fires."""
    prometheus_program()
    rules = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
    with ExitStack() as running:
        stack = running.enter_context(start_stack(folder / "data", **SETTINGS))
        worker = _second_worker(stack, folder)
        running.callback(worker.kill)
        textfiles = folder / "textfiles"
        textfiles.mkdir()
        jobs = {name: [url.split("/")[2]] for name, url in zip(SERVICES, stack.told["metrics"], strict=True)}
        jobs["metering"].append(worker.url.removeprefix("http://"))
        jobs["node"] = [running.enter_context(_textfile_collector(textfiles))]
        traffic = Traffic(stack)
        running.callback(traffic.end)
        rig = Rig(stack, worker, textfiles, traffic)
        worker.wait_ready()
        quick = running.enter_context(prometheus(folder / "quick", faster(rules, TIMES), jobs, every="1s"))
        patient = running.enter_context(
            prometheus(folder / "patient", faster(rules, PATIENT_TIMES, only=PATIENT), jobs, every="5s")
        )
        rig.servers = (quick, patient)
        for server in rig.servers:
            wait_for("all to be scraped", functools.partial(_scrapes_all, server))
        wait_for("steady traffic", lambda: _is_well(quick))
        wait_for("silence", lambda: not rig.firing())
        yield rig


def _scrapes_all(server: PrometheusServer) -> bool:
    return len(server.answers("up == 1")) == len(PROGRAMS)


def _is_well(server: PrometheusServer) -> bool:
    residuals = server.answers("count(byok_conservation_residual_events == 0) > 0")
    savings = server.answers("count by (byok_scope) (rate(byok_saved_credits_total[5s]) > 0)")
    return bool(residuals) and len(savings) >= 2


def _second_worker(stack: Stack, folder: Path) -> Service:
    lines = (stack.data_dir / "secrets" / "env").read_text().splitlines()
    settings = dict(shlex.split(line)[0].split("=", 1) for line in lines)
    port = Ports.free_block().metering
    settings |= {**SETTINGS, "BYOK_METERING_PORT": str(port)}
    worker = Service("second-worker", "metering", {**environment(), **settings}, port, folder)
    worker.start()
    return worker


class _Textfiles(http.server.SimpleHTTPRequestHandler):
    """What node_exporter does with the files of its textfile collector: it shows them under /metrics."""

    def do_GET(self) -> None:
        page = "".join(path.read_text() for path in sorted(Path(self.directory).glob("*.prom"))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class names it so)
        """Nothing is logged."""


@contextmanager
def _textfile_collector(folder: Path) -> Iterator[str]:
    handler = functools.partial(_Textfiles, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
