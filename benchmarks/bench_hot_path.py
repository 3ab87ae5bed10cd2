"""What an event costs a metering worker in Python, step by step, without Kafka and PostgreSQL: µs of processor time.

Beside each step, how many times as long as decoding the JSON alone it takes: on a busy machine that tells more.

    python benchmarks/bench_hot_path.py --events 2000 --times 30
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import orjson
from workload import event

from schemas.registry_changes import RateCardChange
from services.domain.directory import Credential, Directory, PlanHistory
from services.domain.scope import Interval, Plan, PlanPeriod, Scope, ScopeType
from services.key_registry.rate_cards import packaged_cards
from services.messages.registry_changes import to_change
from services.metering.booking.pricing import Covered, Record, price_batch, read_elements
from services.metering.booking.staging import stage
from services.metering.booking.tally import Tally

_ORGANIZATIONS = 48
_BATCH_EVENTS = 100
_EVER = Interval(datetime(2026, 4, 1, tzinfo=UTC), None)


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--events", type=int, default=2_000, help="at once")
    options.add_argument("--times", type=int, default=30, help="of which the best is told")
    asked = options.parse_args()
    directory = _directory()
    # As the worker has it.
    gc.freeze()
    gc.disable()
    print(f"Python {sys.version.split()[0]}; µs of processor time an event, and times as long as decoding alone")
    for what, by_unit in (("tokens as v1", False), ("tokens by unit", True)):
        found = _measure(_records(asked.events, by_unit=by_unit), directory, asked.events, asked.times)
        alone = found["decode alone"]
        steps = [f"{step} {micros:.1f} ({micros / alone:.1f})" for step, micros in found.items()]
        total = sum(found.values()) - alone
        print(f"{what}: {', '.join(steps)}; in all {total:.1f} ({total / alone:.1f})")
    return 0


def _directory() -> Directory:
    """The packaged cards; every second organization is on pro, with a team key, so that both prices are computed."""
    directory, now = Directory(), datetime.now(UTC)
    for card in packaged_cards():
        change = RateCardChange(
            seq=directory.seq + 1, changed_at=now, card=card.card, effective_from=card.effective_from, body=card.body
        )
        directory.apply(change.seq, to_change(change))
    for number in range(0, _ORGANIZATIONS, 2):
        org_id = f"org-{number}"
        directory.apply(directory.seq + 1, PlanHistory(org_id, (PlanPeriod(Plan.PRO, _EVER),)))
        key = Credential(f"key-{number}", org_id, Scope(ScopeType.TEAM, "team"), "openai", (_EVER,))
        directory.apply(directory.seq + 1, key)
    return directory


def _records(events: int, *, by_unit: bool) -> list[Record]:
    numbers = range(events)
    batches = [numbers[at : at + _BATCH_EVENTS] for at in range(0, events, _BATCH_EVENTS)]
    values = [
        orjson.dumps([event(f"org-{n % _ORGANIZATIONS}", n, by_unit=by_unit) for n in batch]) for batch in batches
    ]
    return [Record(0, offset, b"org", value, 0.0) for offset, value in enumerate(values)]


def _measure(records: Sequence[Record], directory: Directory, events: int, times: int) -> dict[str, float]:
    now, covered, ids = datetime.now(UTC), [Covered(0, 0, len(records))], {0: 1}
    read = [read_elements(record, now) for record in records]
    batch = price_batch(covered, read, directory)
    staged = stage(batch, ids)
    if len(staged.firsts) != events:
        raise SystemExit("not every event was priced")
    steps: dict[str, Callable[[], object]] = {
        "decode alone": lambda: [orjson.loads(record.value or b"") for record in records],
        "read": lambda: [read_elements(record, now) for record in records],
        "price": lambda: price_batch(covered, read, directory),
        "rows": lambda: stage(batch, ids),
        "count": lambda: Tally(batch.elements, staged.firsts, staged.letters),
    }
    return {step: _best(work, times) / events * 1e6 for step, work in steps.items()}


def _best(work: Callable[[], object], times: int) -> float:
    found = []
    for _ in range(times):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


if __name__ == "__main__":
    sys.exit(main())
