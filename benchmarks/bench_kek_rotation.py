"""A new key-encryption key for all stored keys, while leases, additions and revocations go on; none may fail.

The registry, PostgreSQL and the broker run on this machine, as `byok up` starts them. Credentials with real envelopes
are copied in; then `byok kek rotate`, `rewrap` and `retire` run as an operator runs them.

    python benchmarks/bench_kek_rotation.py --credentials 100000
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from bench_leases import Caller
from psycopg import Connection
from pydantic import SecretStr

from services.key_registry.keyring.envelopes import Binding, Keyring, load_keyring
from services.local.processes import StopSwitch, stop_on_signals
from services.local.stack import BYOK_COMMANDS, Commands, Stack

_ORGANIZATIONS = 100
_SINCE = datetime(2026, 6, 1, tzinfo=UTC)
_LEASING_THREADS = 2


def main() -> int:
    """Measure and print; 1 where anything failed or was left under the old key."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--credentials", type=int, default=5_000)
    credentials: int = options.parse_args().credentials
    switch = StopSwitch()
    commands = Commands(upgrade=BYOK_COMMANDS.upgrade, services={"registry": BYOK_COMMANDS.services["registry"]})
    with (
        stop_on_signals(switch),
        tempfile.TemporaryDirectory(prefix="byok-bench-") as folder,
        Stack(Path(folder), commands=commands, switch=switch) as stack,
    ):
        keyring = load_keyring(Path(stack.environment()["BYOK_KEK_FILE"]))
        with psycopg.connect(_owner_dsn(stack.endpoints.registry_dsn, Path(folder))) as owner:
            _fill(owner, keyring, credentials)
        return _measure(stack, keyring, credentials)


def _measure(stack: Stack, keyring: Keyring, credentials: int) -> int:
    old = keyring.active_id
    traffic = Traffic(stack.endpoints.registry_url, stack.endpoints.tokens.platform, credentials)
    traffic.start()
    rotated, _ = _byok(stack, "rotate", "--json")
    rewrapped, told = _byok(stack, "rewrap", "--json")
    retired, _ = _byok(stack, "retire", old)
    traffic.finish()
    found = json.loads(told)
    print(f"{credentials:,} credentials; {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    rate = found["moved"] / rewrapped
    print(f"rotate {rotated:.1f} s, rewrap {rewrapped:.1f} s ({rate:,.0f} secrets/s), retire {retired:.1f} s")
    print(f"meanwhile {traffic.told()}")
    print(f"{found['left']:,} secrets left under the old key, {len(found['unusable']):,} unusable")
    return 1 if traffic.failed or found["left"] else 0


class Traffic:
    """Runners that lease keys and check each, and an admin who adds keys, leases and revokes them."""

    def __init__(self, url: str, token: str, credentials: int) -> None:
        self.failed: list[str] = []
        self._url, self._token, self._credentials = url, token, credentials
        self._stop = threading.Event()
        self._seconds: list[float] = []
        self._added = 0
        self._threads = [threading.Thread(target=self._run, args=(self._lease_any,)) for _ in range(_LEASING_THREADS)]
        self._threads.append(threading.Thread(target=self._run, args=(self._add_and_revoke,)))

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """End, when each has done what it is at."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def told(self) -> str:
        """What came of it, in a line; the failures on lines of their own."""
        slowest, median = max(self._seconds) * 1_000, statistics.median(self._seconds) * 1_000
        leases = f"{len(self._seconds):,} leases (median {median:.0f} ms, slowest {slowest:.0f} ms)"
        counts = f"{leases}, {self._added:,} keys added, {len(self.failed)} failures"
        return "\n  ".join([counts, *self.failed[:10]])

    def _run(self, act: Any) -> None:
        caller, numbers = Caller(self._url, self._token), itertools.count()
        try:
            while not self._stop.is_set():
                act(caller, next(numbers))
        except OSError as error:
            self.failed.append(repr(error))

    def _lease_any(self, caller: Caller, _number: int) -> None:
        number = random.randrange(self._credentials)  # noqa: S311 - any will do
        self._lease(caller, _org(number), f"team-{number}", _secret(number))

    def _add_and_revoke(self, caller: Caller, number: int) -> None:
        org_id, team, secret = _org(number), f"new-{number}", f"sk-bench-new-{number:020}"
        body = {"org_id": org_id, "scope": {"type": "team", "id": team}, "provider": "openai", "api_key": secret}
        status, answer = caller.call("POST", "/v1/credentials", body)
        self._check(status == 201, f"adding: {status}")
        self._added += 1
        self._lease(caller, org_id, team, secret)
        if number % 2:
            status, _ = caller.call("DELETE", f"/v1/credentials/{json.loads(answer)['credential_id']}")
            self._check(status == 204, f"revoking: {status}")

    def _lease(self, caller: Caller, org_id: str, team: str, secret: str) -> None:
        body = {"org_id": org_id, "user_id": "uma", "team_id": team, "provider": "openai"}
        began = time.perf_counter()
        status, answer = caller.call("POST", "/v1/lease", body)
        self._seconds.append(time.perf_counter() - began)
        self._check(status == 200 and json.loads(answer)["secret"] == secret, f"leasing {team}: {status}")

    def _check(self, good: bool, what: str) -> None:  # noqa: FBT001 - it is what is checked
        if not good:
            self.failed.append(what)


def _byok(stack: Stack, *arguments: str) -> tuple[float, str]:
    """Seconds, and what it said."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "services", "kek", *arguments],
        env=os.environ | stack.environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return time.perf_counter() - began, done.stdout


def _org(number: int) -> str:
    return f"org-{number % _ORGANIZATIONS}"


def _secret(number: int) -> str:
    return f"sk-bench-{number:024}"


def _fill(owner: Connection[Any], keyring: Keyring, credentials: int) -> None:
    """Credentials as the registry would have written them, and a log whose changes count as sent."""
    numbers = range(credentials)
    (first,) = owner.execute("SELECT last_seq + 1 FROM registry.log_head").fetchone() or (1,)
    _copy(owner, "log (seq, key, payload, changed_at)", ((n + first, "bench", b"{}", _since(n)) for n in numbers))
    periods = json.dumps([{"plan": "pro", "from": _SINCE.isoformat(), "to": None}])
    _copy(owner, "plan_history (org_id, periods, seq)", ((_org(n), periods, 1) for n in range(_ORGANIZATIONS)))
    _copy(
        owner,
        "slot (org_id, scope_type, scope_id, provider)",
        ((_org(n), "team", f"team-{n}", "openai") for n in numbers),
    )
    owner.execute(
        "INSERT INTO registry.credential (credential_id, created_seq, slot_id, org_id, scope_type, scope_id, provider,"
        " hint, fingerprint, created_by, created_at)"
        " SELECT 'bench-' || n, n + %s, slot_id, org_id, scope_type, scope_id, provider, '…', '', 'bench', %s"
        " FROM generate_series(0, %s) n"
        " JOIN registry.slot ON scope_id = 'team-' || n",
        (first, _SINCE, credentials - 1),
    )
    owner.execute(
        "INSERT INTO registry.credential_interval (credential_id, slot_id, active_from)"
        " SELECT credential_id, slot_id, created_at FROM registry.credential"
    )
    columns = "credential_id, version, format_version, kek_id, wrapped_key, wrap_nonce, ciphertext, nonce, created_at"
    sealed = ((f"bench-{n}", 1, *keyring.seal(SecretStr(_secret(n)), _binding(n)), _SINCE) for n in numbers)
    _copy(owner, f"secret_version ({columns})", sealed)
    owner.execute(
        "UPDATE registry.log_head SET last_seq = %s, last_at = %s", (first + credentials - 1, datetime.now(UTC))
    )
    owner.execute("UPDATE registry.relay_cursor SET sent_seq = %s", (first + credentials - 1,))
    owner.commit()
    owner.autocommit = True
    owner.execute("ANALYZE")


def _binding(number: int) -> Binding:
    return Binding(_org(number), "team", f"team-{number}", "openai", f"bench-{number}", 1)


def _since(number: int) -> datetime:
    return _SINCE.replace(minute=number // 1_000_000, microsecond=number % 1_000_000)


def _copy(owner: Connection[Any], into: str, rows: Any) -> None:
    with owner.cursor().copy(f"COPY registry.{into} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _owner_dsn(service_dsn: str, folder: Path) -> str:
    passwords = json.loads((folder / "secrets" / "passwords.json").read_text())
    address = urlsplit(service_dsn)
    return f"postgresql://registry_owner:{passwords['registry_owner']}@{address.hostname}:{address.port}{address.path}"


if __name__ == "__main__":
    sys.exit(main())
