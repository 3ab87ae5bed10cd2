"""How soon late knowledge is in the ledger: from the answer to a backdated key until the last entry is corrected.

The whole stack runs on this machine. One organization's usage is booked without a key; then its key is entered, with
effect from before all of it, so that every entry of the key's provider is taken back and corrected. Meanwhile events of
another organization are sent one by one, to see what the re-rating costs those who are not concerned.

    python benchmarks/bench_rerating.py --entries 20000
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from psycopg import Connection
from workload import SINCE, booked, event, publish, wait_until

from services.cli.demo.registration import Api
from services.local.processes import StopSwitch, stop_on_signals
from services.local.stack import BYOK_COMMANDS, Stack
from services.runtime.database import connect

_DEADLINE_SECONDS = 900
# Of the models in the workload every third is of this provider.
_PROVIDER, _OF_ALL = "openai", 3
_ALONE = 100
"""Entries that a first, small change touches, so that nothing is measured while it starts up."""


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--entries", type=int, default=20_000, help="how many entries the key touches")
    entries = options.parse_args().entries
    switch = StopSwitch()
    with (
        stop_on_signals(switch),
        tempfile.TemporaryDirectory(prefix="byok-bench-") as folder,
        Stack(Path(folder), commands=BYOK_COMMANDS, switch=switch) as stack,
        connect(stack.endpoints.ledger_dsn, "bench", autocommit=True) as ledger,
    ):
        registry = Api(stack.endpoints.registry_url, stack.endpoints.tokens.platform)
        for count in (_ALONE, entries):
            _measure(stack, registry, ledger, f"org-{count}", count)
    return 0


def _measure(stack: Stack, registry: Api, ledger: Connection[Any], org_id: str, entries: int) -> None:
    registry.call("PUT", f"/v1/organizations/{org_id}/plan", {"plan": "pro", **SINCE})
    before, corrected = booked(ledger), _corrections(ledger)
    publish(stack, (event(org_id, number) for number in range(entries * _OF_ALL)), 100)
    wait_until("the usage to be booked", lambda: booked(ledger) >= before + entries * _OF_ALL, _DEADLINE_SECONDS)
    body = {"org_id": org_id, "scope": {"type": "team", "id": "team"}, "provider": _PROVIDER, **SINCE}
    registry.call("POST", "/v1/credentials", body | {"api_key": f"sk-bench-{entries:020}"})
    began = time.perf_counter()
    waited: list[float] = []
    while _corrections(ledger) - corrected < entries:
        waited.append(_book_one(stack, ledger, f"beside-{entries}-{len(waited)}"))
        if time.perf_counter() - began > _DEADLINE_SECONDS:
            raise SystemExit("waited in vain for the corrections")
    seconds = time.perf_counter() - began
    load = os.getloadavg()[0]
    told = f"{entries:>9,} entries corrected after {seconds:6.2f} s, {entries / seconds:>7,.0f}/s"
    beside = f"{len(waited)} others booked after {median(waited):.2f} s, at most {max(waited):.2f} s"
    print(f"{told}; meanwhile {beside}; load average {load:.1f}", flush=True)


def _book_one(stack: Stack, ledger: Connection[Any], event_id: str) -> float:
    """Seconds until one more event is in the ledger."""
    began = time.perf_counter()
    publish(stack, [event("beside", 0) | {"id": event_id}], 1)
    query = "SELECT count(*) FROM ledger.entry WHERE org_id = 'beside' AND event_source = 'bench' AND event_id = %s"
    wait_until(event_id, lambda: bool((ledger.execute(query, (event_id,)).fetchone() or (0,))[0]), _DEADLINE_SECONDS)
    return time.perf_counter() - began


def _corrections(ledger: Connection[Any]) -> int:
    # The totals are committed with the rows they count, and quicker to read than so many rows.
    query = "SELECT coalesce(sum(value), 0) FROM ledger.metric_total WHERE metric = 'corrections'"
    (corrections,) = ledger.execute(query).fetchone() or (0,)
    return int(corrections)


if __name__ == "__main__":
    raise SystemExit(main())
