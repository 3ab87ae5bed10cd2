"""How many leases one registry answers, how long each takes, and what keys that are added meanwhile make of it.

The registry, PostgreSQL and the broker run on this machine, as `byok up` starts them. Some threads ask for leases over
HTTP, one after the other; in the last part another thread adds and revokes keys as fast as it can. What the machine is
worth at the moment is told by the same threads with requests for which nothing is done.

    python benchmarks/bench_leases.py --seconds 10 --threads 8

With `--beside` the registry of another checkout, by its Python, is measured in turns with this one, so that both see
the same machine:

    python benchmarks/bench_leases.py --beside ../before/.venv/bin/python --rounds 3
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from services.local.processes import StopSwitch, stop_on_signals
from services.local.stack import Commands, Stack

_ORGANIZATIONS = 20
_HERE = sys.executable
_TICKS = os.sysconf("SC_CLK_TCK")


class Caller:
    """One connection that is kept, and one token.

    Not httpx, as elsewhere: it takes 0.3 ms more of the processor for each call, on the cores of what is measured.
    """

    def __init__(self, url: str, token: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        """Status and body of the answer."""
        self._connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        response = self._connection.getresponse()
        return response.status, response.read()


class Measured(NamedTuple):
    """What the threads of one part saw, in one round or in all."""

    seconds: float
    answers: list[float]
    """How long each took, in seconds."""
    changes: int
    failed: int
    registry_seconds: float
    """Of the processor."""
    postgres_seconds: float

    def plus(self, other: Measured) -> Measured:
        """Both rounds as one."""
        return Measured(
            self.seconds + other.seconds,
            self.answers + other.answers,
            self.changes + other.changes,
            self.failed + other.failed,
            self.registry_seconds + other.registry_seconds,
            self.postgres_seconds + other.postgres_seconds,
        )


class Registry(NamedTuple):
    """One that runs, and where it is."""

    name: str
    url: str
    token: str
    folder: Path

    def caller(self) -> Caller:
        """A new connection to it."""
        return Caller(self.url, self.token)

    def processor_seconds(self) -> tuple[float, float]:
        """What the registry, and its PostgreSQL with all that it started, have taken of the processor so far."""
        page = self.caller().call("GET", "/metrics")[1].decode()
        samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
        ours = next(sample.value for sample in samples if sample.name == "process_cpu_seconds_total")
        postmaster = int(next(self.folder.rglob("postmaster.pid")).read_text().split()[0])
        return ours, _with_children(postmaster)


def _with_children(parent: int) -> float:
    ticks = 0
    for process in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = process.read_text().rpartition(")")[2].split()
        except OSError:
            # It has ended; what it took is its parent's from now on.
            continue
        if int(process.parent.name) == parent:
            ticks += sum(map(int, fields[11:15]))
        elif int(fields[1]) == parent:
            ticks += sum(map(int, fields[11:13]))
    return ticks / _TICKS


def main() -> int:
    """Measure and print; 1 where a request failed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--seconds", type=float, default=5)
    options.add_argument("--threads", type=int, default=8)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--beside", help="the Python of another checkout, whose registry is measured in turns")
    asked = options.parse_args()
    switch, found = StopSwitch(), dict[tuple[str, str], Measured]()
    with stop_on_signals(switch), ExitStack() as running:
        pythons = {"before": asked.beside, "now": _HERE} if asked.beside else {"now": _HERE}
        registries = [running.enter_context(_Running(name, python, switch)) for name, python in pythons.items()]
        for _ in range(asked.rounds):
            for what, part in _PARTS.items():
                for registry in registries:
                    measured = part(registry, asked.seconds, asked.threads)
                    before = found.get((what, registry.name))
                    found[what, registry.name] = measured if before is None else before.plus(measured)
    _show(found, asked.threads)
    return 1 if any(part.failed for part in found.values()) else 0


class _Running(ExitStack):
    """A registry of its own, with keys, as long as this is entered."""

    def __init__(self, name: str, python: str, switch: StopSwitch) -> None:
        super().__init__()
        self._name, self._switch = name, switch
        # Without the environment's word for where this checkout is.
        command = (python, "-E", "-m", "services")
        self._commands = Commands(upgrade=(*command, "db", "upgrade"), services={"registry": (*command, "registry")})

    def __enter__(self) -> Registry:  # type: ignore[override]
        folder = Path(self.enter_context(tempfile.TemporaryDirectory(prefix="byok-bench-")))
        stack = self.enter_context(Stack(folder, commands=self._commands, switch=self._switch))
        registry = Registry(self._name, stack.endpoints.registry_url, stack.endpoints.tokens.platform, folder)
        _prepare(registry.caller())
        return registry


def _prepare(caller: Caller) -> None:
    for number in range(_ORGANIZATIONS):
        caller.call("PUT", f"/v1/organizations/org-{number}/plan", {"plan": "pro"})
        caller.call("POST", "/v1/credentials", _key(number, "team"))


def _key(number: int, team: str) -> dict[str, Any]:
    scope = {"type": "team", "id": team}
    return {"org_id": f"org-{number}", "scope": scope, "provider": "openai", "api_key": f"sk-bench-{number:020}"}


def _use(number: int) -> dict[str, Any]:
    return {"org_id": f"org-{number % _ORGANIZATIONS}", "user_id": "uma", "team_id": "team", "provider": "openai"}


def _nothing(caller: Caller, _number: int) -> bool:
    return caller.call("GET", "/healthz")[0] == 200


def _lease(caller: Caller, number: int) -> bool:
    status, answer = caller.call("POST", "/v1/lease", _use(number))
    return status == 200 and b'"team_key"' in answer


def _resolve(caller: Caller, number: int) -> bool:
    status, answer = caller.call("POST", "/v1/resolve", _use(number))
    return status == 200 and b'"team_key"' in answer


def _change(caller: Caller, number: int) -> bool:
    status, answer = caller.call("POST", "/v1/credentials", _key(number % _ORGANIZATIONS, "another"))
    ended, _ = caller.call("DELETE", f"/v1/credentials/{json.loads(answer)['credential_id']}")
    return (status, ended) == (201, 204)


_Part = Callable[[Registry, float, int], Measured]


def _part(ask: Callable[[Caller, int], bool], *, changing: bool = False) -> _Part:
    def measure(registry: Registry, seconds: float, threads: int) -> Measured:
        stop, answers, changed, failed = threading.Event(), list[float](), [0], [0]

        def asking(number: int) -> None:
            caller = registry.caller()
            while not stop.is_set():
                began = time.perf_counter()
                failed[0] += not ask(caller, number)
                answers.append(time.perf_counter() - began)
                number += threads

        def change() -> None:
            caller = registry.caller()
            while not stop.is_set():
                failed[0] += not _change(caller, changed[0])
                changed[0] += 2

        workers = [threading.Thread(target=asking, args=(number,)) for number in range(threads)]
        workers += [threading.Thread(target=change)] if changing else []
        before, began = registry.processor_seconds(), time.perf_counter()
        for worker in workers:
            worker.start()
        stop.wait(seconds)
        stop.set()
        for worker in workers:
            worker.join()
        took, after = time.perf_counter() - began, registry.processor_seconds()
        return Measured(took, answers, changed[0], failed[0], after[0] - before[0], after[1] - before[1])

    return measure


_PARTS = {
    "nothing": _part(_nothing),
    "resolve": _part(_resolve),
    "lease": _part(_lease),
    "lease while keys change": _part(_lease, changing=True),
}


def _show(found: dict[tuple[str, str], Measured], threads: int) -> None:
    print(f"{threads} threads, one registry; {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    print(f"{'':<32}{'a second':>10}{'median ms':>11}{'99 % ms':>9}{'registry':>10}{'PostgreSQL':>12}", end="")
    print(f"{'changes/s':>11}{'failed':>8}\n{'':<62}{'ms of processor each':>22}")
    for (what, name), part in found.items():
        count = len(part.answers)
        slow = statistics.quantiles(part.answers, n=100)[98] * 1_000
        print(
            f"{f'{what} ({name})':<32}{count / part.seconds:>10,.0f}{statistics.median(part.answers) * 1_000:>11.1f}",
            end="",
        )
        print(f"{slow:>9.1f}{part.registry_seconds * 1_000 / count:>10.2f}", end="")
        print(f"{part.postgres_seconds * 1_000 / count:>12.2f}{part.changes / part.seconds:>11,.0f}{part.failed:>8}")
    for what in _PARTS:
        if (what, "before") in found:
            _show_ratio(what, found[what, "before"], found[what, "now"])


def _show_ratio(what: str, before: Measured, now: Measured) -> None:
    rate, processor = (
        [len(part.answers) / part.seconds for part in (before, now)],
        [(part.registry_seconds + part.postgres_seconds) / len(part.answers) for part in (before, now)],
    )
    waits = [statistics.quantiles(part.answers, n=100)[98] for part in (before, now)]
    print(
        f"{what}: {rate[1] / rate[0]:.1f} times as many a second, 99 % in {waits[1] / waits[0]:.2f} of the time,"
        f" {processor[1] / processor[0]:.2f} of the processor time each"
    )


if __name__ == "__main__":
    sys.exit(main())
