"""How fast `byok verify --replay` books a topic again and compares, beside the stack that it looks at.

The whole stack runs on this machine. Half of the organizations get a key only after all is booked, with effect from
before: the replay has to come, without any correction, to what the ledger came to with them.

    python benchmarks/bench_replay.py --events 60000
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from workload import SINCE, booked, event, publish, wait_until, worked_off

from services.cli.demo.registration import Api
from services.local.processes import StopSwitch, stop_on_signals
from services.local.stack import BYOK_COMMANDS, Stack
from services.runtime.database import connect

_ORGANIZATIONS = 48
_DEADLINE_SECONDS = 900


def main() -> int:
    """Measure and print; 1 where the replay comes to anything else."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--events", type=int, default=60_000)
    options.add_argument("--batch", type=int, default=100, help="events to a record")
    asked = options.parse_args()
    switch = StopSwitch()
    with (
        stop_on_signals(switch),
        tempfile.TemporaryDirectory(prefix="byok-bench-") as folder,
        Stack(Path(folder), commands=BYOK_COMMANDS, switch=switch) as stack,
        connect(stack.endpoints.ledger_dsn, "bench", autocommit=True) as ledger,
    ):
        publish(stack, (event(f"org-{n % _ORGANIZATIONS}", n) for n in range(asked.events)), asked.batch)
        wait_until("the usage to be booked", lambda: booked(ledger) >= asked.events, _DEADLINE_SECONDS)
        known = worked_off(ledger)
        changes = _add_keys(Api(stack.endpoints.registry_url, stack.endpoints.tokens.platform))
        wait_until("the corrections", lambda: worked_off(ledger) >= known + changes, _DEADLINE_SECONDS)
        found = _replay(Path(folder))
        (entries,) = ledger.execute("SELECT count(*) FROM ledger.entry").fetchone() or (0,)
    _show(found, entries)
    return 0 if found["ledger"] == found["replay"] and found["ledger"]["identities"] == asked.events else 1


def _add_keys(registry: Api) -> int:
    """A plan and a key for every second organization; returns how many changes that is."""
    concerned = range(0, _ORGANIZATIONS, 2)
    for number in concerned:
        org_id = f"org-{number}"
        registry.call("PUT", f"/v1/organizations/{org_id}/plan", {"plan": "pro", **SINCE})
        scope = {"type": "team", "id": "team"}
        body = {"org_id": org_id, "scope": scope, "provider": "openai", "api_key": f"sk-bench-{number:020}", **SINCE}
        registry.call("POST", "/v1/credentials", body)
    return 2 * len(concerned)


def _replay(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "services", "verify", "--replay", "--json", "--data-dir", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=_DEADLINE_SECONDS)
    if not done.stdout:
        raise SystemExit(done.returncode)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _show(found: dict[str, Any], entries: int) -> None:
    events, booking, whole = found["events"], found["booking_seconds"], found["seconds"]
    print(f"{events:,} events booked again in {booking:.1f} s, {events / booking:,.0f} events/s")
    rest = whole - booking
    identities = found["ledger"]["identities"]
    print(
        f"{entries:,} entries, {identities:,} identities compared; {rest:.1f} s besides the booking, {whole:.1f} s all"
    )
    print(f"{found['differences']:,} differences; {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    sys.exit(main())
