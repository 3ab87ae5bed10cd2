"""What the directory, which every metering worker holds in memory, costs: bytes per credential, and time per lookup.

The changes are read from the bytes that the registry would send, as a worker reads them when it starts.

    python benchmarks/bench_directory.py --credentials 100000
"""

from __future__ import annotations

import argparse
import gc
import time
import tracemalloc
from datetime import UTC, datetime

import orjson

from services.domain.directory import Directory
from services.domain.scope import Scope, ScopeType
from services.messages.registry_changes import read_change, to_change

_AT = datetime(2026, 11, 20, tzinfo=UTC)
_PER_ORGANIZATION = 50
_LOOKUPS = 100_000


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--credentials", type=int, default=100_000)
    credentials = options.parse_args().credentials
    began = time.perf_counter()
    directory = _directory(credentials)
    seconds = time.perf_counter() - began
    looked = _look_up(directory, credentials)
    del directory
    gc.collect()
    tracemalloc.start()
    directory = _directory(credentials)
    gc.collect()
    held, _peak = tracemalloc.get_traced_memory()
    print(f"{directory.seq:,} credentials: {held / credentials:,.0f} bytes each, {held / 1e6:,.0f} MB in all;")
    print(f"read in {seconds:.1f} s, {credentials / seconds:,.0f}/s; a lookup takes {looked * 1e6:.2f} µs")
    return 0


def _directory(credentials: int) -> Directory:
    directory = Directory()
    for number in range(credentials):
        directory.apply(number + 1, to_change(read_change(_message(number))))
    return directory


def _message(number: int) -> bytes:
    """A personal key as the registry publishes it, replaced once by now."""
    org_id, credential_id = f"organization-{number // _PER_ORGANIZATION:08}", f"00000000-0000-4000-8000-{number:012}"
    return orjson.dumps(
        {
            "seq": number + 1,
            "kind": "credential",
            "changed_at": "2026-11-20T00:00:00Z",
            "credential_id": credential_id,
            "org_id": org_id,
            "scope": {"type": "personal", "id": f"user-{number:08}"},
            "provider": "openai",
            "hint": "…abcd",
            "active": [
                {"from": "2026-05-01T00:00:00Z", "to": "2026-06-01T00:00:00Z"},
                {"from": "2026-06-01T00:00:00Z", "to": None},
            ],
        }
    )


def _look_up(directory: Directory, credentials: int) -> float:
    """Seconds for one lookup of a key that is there."""
    wanted = [
        (f"organization-{number // _PER_ORGANIZATION:08}", Scope(ScopeType.PERSONAL, f"user-{number:08}"))
        for number in (step * 7919 % credentials for step in range(_LOOKUPS))
    ]
    began = time.perf_counter()
    found = sum(directory.active_in(org_id, *scope, "openai", _AT) is not None for org_id, scope in wanted)
    seconds = time.perf_counter() - began
    if found != _LOOKUPS:
        raise SystemExit(f"only {found} of {_LOOKUPS} keys were found")
    return seconds / _LOOKUPS


if __name__ == "__main__":
    raise SystemExit(main())
