"""Runners that are killed and a ledger that fails in every way; in the end no act is lost, and none is there twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from byok_sdk import Counts, Meter, Settings
from byok_sdk.slots import existing
from byok_sdk.spool import read_counts
from byok_sdk.status import total

from tests.e2e.running import Stack
from tests.patience import PATIENCE_SECONDS, wait_for
from tests.sdk.chaos_runner import tokens_of

ROOT = Path(__file__).parents[2]
RUNNERS = 3


class Chaos(NamedTuple):
    """What one seed did, and what came of it."""

    seed: int
    kills: int
    faults: int
    recorded: int
    refused: int
    """How often the disk did not take an act."""
    booked: int
    lost: list[str]
    """Acts that returned from ``record`` and that the ledger does not have once."""
    wrong: list[str]
    """Entries of no act, or of other counts than the act's, and dead letters."""
    counts: Counts
    seconds: float

    @property
    def right(self) -> bool:
        """Whether all is as it must be."""
        drained = self.counts.balanced and self.counts.waiting == self.counts.rejected == 0
        return not self.lost and not self.wrong and drained and self.recorded > 0


class _FailingLedger:
    """Stands before the ledger, and fails as networks, proxies and services do."""

    def __init__(self, url: str, seed: int) -> None:
        self.faults = 0
        self.failing = True
        self._chance = random.Random(seed)  # noqa: S311 - it is to be the same again
        self._lock = threading.Lock()
        self._client = httpx.Client(base_url=url, timeout=PATIENCE_SECONDS)
        self._away_until = 0.0

    def fault(self) -> str:
        """What goes wrong with the next request."""
        with self._lock:
            if not self.failing:
                return "none"
            now = time.monotonic()
            if now < self._away_until:
                return "away"
            fault = self._chance.choices(
                ("none", "away", "500 after", "cut after", "500", "429", "slow"), (6, 1, 3, 3, 1, 1, 1)
            )[0]
            if fault == "away":
                self._away_until = now + self._chance.random()
            self.faults += fault != "none"
            return fault

    def forward(self, path: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        """What the ledger itself answers."""
        return self._client.post(path, content=body, headers=headers)


@contextmanager
def _failing_ledger(url: str, seed: int) -> Iterator[tuple[str, _FailingLedger]]:
    ledger = _FailingLedger(url, seed)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            fault = ledger.fault()
            if fault == "slow":
                time.sleep(0.5)
            if fault in ("500", "429"):
                self._answer(int(fault), b'{"code": "made_up"}')
            elif fault != "away":
                wanted = ("Authorization", "Content-Type")
                answer = ledger.forward(self.path, {name: self.headers[name] for name in wanted}, body)
                if fault == "500 after":
                    self._answer(500, b"")
                elif fault != "cut after":
                    self._answer(answer.status_code, answer.content)

        def _answer(self, status: int, body: bytes) -> None:
            with suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", ledger
    finally:
        server.shutdown()
        server.server_close()


class _Said:
    """What runners said before they were killed."""

    def __init__(self) -> None:
        self.tried: set[str] = set()
        self.recorded: set[str] = set()
        self.refused = 0
        self._lock = threading.Lock()

    def hear(self, pipe: Any) -> None:
        """All that one runner says, to its end."""
        for line in pipe:
            what, name, act = line.split()
            with self._lock:
                if what == "tries":
                    self.tried.add(f"{name}-{act}")
                elif what == "recorded":
                    self.recorded.add(f"{name}-{act}")
                else:
                    self.refused += 1

    def next_act(self, name: str) -> int:
        """Where a runner goes on that is started again."""
        with self._lock:
            own = [int(act.rpartition("-")[2]) for act in self.recorded if act.startswith(f"{name}-")]
        return max(own, default=0)


def run_chaos(stack: Stack, seed: int, folder: Path, kills: int = 8) -> Chaos:
    """Start runners, kill each at a random moment, again and again; then let all come to rest, and compare."""
    began = time.monotonic()
    chance, said = random.Random(seed), _Said()  # noqa: S311 - it is to be the same again
    org_id = stack.new_organization()
    with _failing_ledger(stack.told["ledger_url"], seed) as (url, ledger):
        told = {
            "url": url,
            "token": stack.told["tokens"]["platform"],
            "spool_dir": str(folder),
            "org_id": org_id,
        }
        killed = 0
        while killed < kills:
            names = [f"w{number}" for number in range(min(RUNNERS, kills - killed))]
            runners = [_start(told | {"name": name, "first": said.next_act(name)}, chance, said) for name in names]
            for process, thread in runners:
                time.sleep(chance.random() * 1.2)
                # With its children: a machine that fails takes all of them.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                thread.join()
                killed += 1
        ledger.failing = False
        counts = _drain(told, folder)
    lost, wrong, booked = _compare(stack, org_id, said)
    seconds = time.monotonic() - began
    recorded = len(said.recorded)
    return Chaos(seed, killed, ledger.faults, recorded, said.refused, booked, lost, wrong, counts, seconds)


def _start(told: dict[str, Any], chance: random.Random, said: _Said) -> tuple[subprocess.Popen[str], threading.Thread]:
    command = [sys.executable, "-m", "tests.sdk.chaos_runner", json.dumps(told | {"seed": chance.random()})]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    thread = threading.Thread(target=said.hear, args=(process.stdout,))
    thread.start()
    # Its imports take longer than most of its life.
    wait_for("the runner to record", lambda: said.next_act(told["name"]) > told["first"] or process.poll() is not None)
    return process, thread


def _drain(told: dict[str, Any], folder: Path) -> Counts:
    """The counts once a last process has sent what the killed ones left."""
    settings = Settings(
        registry_url=told["url"],
        ledger_url=told["url"],
        token=told["token"],
        spool_dir=folder,
        adopt_seconds=0.1,
    )

    def counted() -> Counts:
        return total(read_counts(path) for _, path in existing(folder))

    with Meter(settings) as meter:
        meter.run(org=told["org_id"], user="u1", run_id="last").tool("drain")
        wait_for("the spool to be empty", lambda: counted().waiting == 0)
    return counted()


def _compare(stack: Stack, org_id: str, said: _Said) -> tuple[list[str], list[str], int]:
    """Acts that are lost, entries that are wrong, and how many entries there are."""
    query = """SELECT agent_id, kind, input_tokens FROM ledger.entries
               WHERE org_id = %s AND event_type = 'usage.token_usage.v2'"""

    def entries() -> list[dict[str, Any]]:
        return stack.sql.execute(query, (org_id,)).fetchall()

    with suppress(AssertionError):
        wait_for("all to be booked", lambda: said.recorded <= {each["agent_id"] for each in entries()})
    found = entries()
    booked = Counter(each["agent_id"] for each in found)
    lost = sorted(said.recorded - booked.keys())
    wrong = [
        str(each)
        for each in found
        if each["kind"] != "charge"
        or each["agent_id"] not in said.tried
        or each["input_tokens"] != tokens_of(int(each["agent_id"].rpartition("-")[2]))
    ]
    twice = [f"{act}: {times} entries" for act, times in booked.items() if times > 1]
    letters = stack.sql.execute(
        "SELECT reason, detail FROM ledger.dead_letters WHERE org_id = %s", (org_id,)
    ).fetchall()
    return lost, [*wrong, *twice, *map(str, letters)], len(found)
