"""What the SDK costs a runner: recording an act, with and without fsync, and looking up a lease that is cached.

Nothing is sent meanwhile: the ledger is an address at which nobody listens. The registry, for the one lease that is
fetched, is a few lines in this process. `--spool` names a folder on the disk that is to be measured.

    python benchmarks/bench_sdk.py --records 2000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from byok_sdk import AsyncMeter, Meter, Settings
from byok_sdk.settings import Durability

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOWHERE = "http://127.0.0.1:9"
_REPLY = {
    "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
    "model": "claude-sonnet-5",
    "usage": {
        "input_tokens": 2095,
        "cache_creation_input_tokens": 51,
        "cache_read_input_tokens": 4100,
        "output_tokens": 503,
        "service_tier": "standard",
    },
}
_LEASE = {
    "provider": "anthropic",
    "source": "byok",
    "reason": "team_key",
    "credential_id": "c-1",
    "at": "2026-11-29T09:30:00Z",
    "expires_at": "2026-11-29T09:35:00Z",
    "ttl_seconds": 300,
    "secret": "sk-made-up",
}


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--records", type=int, default=2_000)
    options.add_argument("--leases", type=int, default=50_000)
    options.add_argument("--threads", type=int, default=8)
    options.add_argument("--spool", type=Path)
    asked = options.parse_args()
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; median and 99th percentile")
    with tempfile.TemporaryDirectory(prefix="byok-bench-", dir=asked.spool) as folder:
        for durability in ("fsync", "process"):
            settings = _settings(Path(folder), durability)
            _show(f"record, {durability}", _acts(settings, asked.records, 1))
            _show(f"record, {durability}, {asked.threads} threads", _acts(settings, asked.records, asked.threads))
            _show(f"record, {durability}, asyncio", asyncio.run(_awaited(settings, asked.records)))
        with _registry() as url:
            _show("a cached lease", _leases(_settings(Path(folder), "process", url), asked.leases))
    return 0


def _settings(folder: Path, durability: Durability, registry_url: str = _NOWHERE) -> Settings:
    return Settings(
        registry_url=registry_url,
        ledger_url=_NOWHERE,
        token="made-up",  # noqa: S106 - nobody asks for it
        spool_dir=Path(tempfile.mkdtemp(dir=folder)),
        durability=durability,
        exit_seconds=0.0,
    )


def _timed(times: int, work: Callable[[], object]) -> list[float]:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return took


def _acts(settings: Settings, records: int, threads: int) -> list[float]:
    meter, took = Meter(settings), list[float]()

    def work(thread: int) -> None:
        run = meter.run(org="acme", user="u1", team="t1", run_id=f"r{thread}")

        def act() -> None:
            with run.act("plan", agent="a1") as step:
                step.record(_REPLY, provider="anthropic")

        act()
        took.extend(_timed(records // threads, act))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    meter.close(0)
    return took


async def _awaited(settings: Settings, records: int) -> list[float]:
    took = []
    meter = AsyncMeter(settings)
    run = meter.run(org="acme", user="u1", team="t1", run_id="r1")
    for _ in range(records):
        began = time.perf_counter()
        async with run.act("plan", agent="a1") as step:
            await step.record(_REPLY, provider="anthropic")
        took.append(time.perf_counter() - began)
    await meter.close(0)
    return took


def _leases(settings: Settings, leases: int) -> list[float]:
    meter = Meter(settings)
    run = meter.run(org="acme", user="u1", team="t1")
    run.key("anthropic")
    took = _timed(leases, lambda: run.key("anthropic"))
    meter.close(0)
    return took


@contextmanager
def _registry() -> Iterator[str]:
    """One lease, and a log in which nothing changes."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(_LEASE)

        def do_GET(self) -> None:
            if "after" in self.path:
                time.sleep(5)
            self._answer({"changes": [], "next_after": 1, "more": False})

        def _answer(self, told: object) -> None:
            body = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def _show(what: str, took: list[float]) -> None:
    median, slow = statistics.median(took), statistics.quantiles(took, n=100)[98]
    print(f"{what:<32}{median * 1e6:>10,.1f} µs{slow * 1e6:>12,.1f} µs   ({len(took):,})")


if __name__ == "__main__":
    sys.exit(main())
