"""How many leases one registry answers, how long each takes, and what keys that are added meanwhile make of it.

The registry, PostgreSQL and the broker run on this machine, as `byok up` starts them. Some threads ask for leases over
HTTP, one after the other; in the second part another thread adds and revokes keys as fast as it can.

    python benchmarks/bench_leases.py --seconds 10 --threads 8
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
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from services.local.processes import StopSwitch, stop_on_signals
from services.local.stack import BYOK_COMMANDS, Commands, Stack

_ORGANIZATIONS = 20


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
    """What the threads of one part saw."""

    what: str
    seconds: float
    leases: list[float]
    """How long each took, in seconds."""
    changes: int
    failed: int


def main() -> int:
    """Measure and print; 1 where a request failed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--seconds", type=float, default=5)
    options.add_argument("--threads", type=int, default=8)
    asked = options.parse_args()
    switch = StopSwitch()
    commands = Commands(upgrade=BYOK_COMMANDS.upgrade, services={"registry": BYOK_COMMANDS.services["registry"]})
    with (
        stop_on_signals(switch),
        tempfile.TemporaryDirectory(prefix="byok-bench-") as folder,
        Stack(Path(folder), commands=commands, switch=switch) as stack,
    ):
        url, token = stack.endpoints.registry_url, stack.endpoints.tokens.platform
        _prepare(Caller(url, token))
        found = [_measure(url, token, asked.seconds, asked.threads, changing=changing) for changing in (False, True)]
    _show(found, asked.threads)
    return 1 if any(part.failed for part in found) else 0


def _prepare(caller: Caller) -> None:
    for number in range(_ORGANIZATIONS):
        caller.call("PUT", f"/v1/organizations/org-{number}/plan", {"plan": "pro"})
        caller.call("POST", "/v1/credentials", _key(number, "team"))


def _key(number: int, team: str) -> dict[str, Any]:
    scope = {"type": "team", "id": team}
    return {"org_id": f"org-{number}", "scope": scope, "provider": "openai", "api_key": f"sk-bench-{number:020}"}


def _measure(url: str, token: str, seconds: float, threads: int, *, changing: bool) -> Measured:
    stop, seen = threading.Event(), Measured("leases while keys change" if changing else "leases", 0, [], 0, 0)
    failed, changed = [0], [0]

    def lease(thread: int) -> None:
        caller, number = Caller(url, token), thread
        while not stop.is_set():
            number = (number + threads) % _ORGANIZATIONS
            body = {"org_id": f"org-{number}", "user_id": "uma", "team_id": "team", "provider": "openai"}
            began = time.perf_counter()
            status, answer = caller.call("POST", "/v1/lease", body)
            seen.leases.append(time.perf_counter() - began)
            failed[0] += status != 200 or b'"team_key"' not in answer

    def change() -> None:
        caller = Caller(url, token)
        while not stop.is_set():
            status, answer = caller.call("POST", "/v1/credentials", _key(changed[0] % _ORGANIZATIONS, "another"))
            failed[0] += status != 201
            status, _ = caller.call("DELETE", f"/v1/credentials/{json.loads(answer)['credential_id']}")
            failed[0] += status != 204
            changed[0] += 2

    workers = [threading.Thread(target=lease, args=(number,)) for number in range(threads)]
    workers += [threading.Thread(target=change)] if changing else []
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    stop.wait(seconds)
    stop.set()
    for worker in workers:
        worker.join()
    return seen._replace(seconds=time.perf_counter() - began, changes=changed[0], failed=failed[0])


def _show(found: list[Measured], threads: int) -> None:
    print(f"{threads} threads, one registry; {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    print(f"{'':<28}{'leases/s':>10}{'median ms':>11}{'99 % ms':>9}{'changes/s':>11}{'failed':>8}")
    for part in found:
        rate, median = len(part.leases) / part.seconds, statistics.median(part.leases) * 1_000
        slow = statistics.quantiles(part.leases, n=100)[98] * 1_000
        changes = part.changes / part.seconds
        print(f"{part.what:<28}{rate:>10,.0f}{median:>11.1f}{slow:>9.1f}{changes:>11,.0f}{part.failed:>8}")


if __name__ == "__main__":
    sys.exit(main())
