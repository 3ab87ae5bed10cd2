"""`make faults SEED=… RUNS=…`: random faults under load on Apache Kafka, and a table; exit 1 where one is wrong."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.faults.runs import Outcome, run_seed
from tests.kafka.jars import KafkaUnavailableError, fetch, java

_SHOWN = 5
_COUNTED = ("events", "kills", "moves", "corrections", "wrong", "lost", "doubled", "residual")
_HEADINGS = ("seed", "brokers", *_COUNTED, "rest s", "run s")


def main() -> int:
    """Run the seeds one after the other."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds, counted up from the first")
    parser.add_argument("--brokers", type=int, choices=(1, 3), help="how many (default: 1 for odd seeds, 3 for even)")
    parser.add_argument("--keep", type=Path, help="keep the logs of runs that went wrong there")
    parser.add_argument("--keep-always", action="store_true", help="those of runs that went right, too")
    options = parser.parse_args()
    try:
        java()
        fetch()
    except KafkaUnavailableError as error:
        _say(str(error))
        return 2
    outcomes: list[Outcome] = []
    broken = 0
    for seed in range(options.seed, options.seed + options.runs):
        outcome = _run(seed, options.brokers, options.keep, always=options.keep_always)
        if outcome is None:
            broken += 1
        else:
            outcomes.append(outcome)
    _table(outcomes)
    if broken:
        _say(f"{broken} runs did not come to an end")
    return 0 if not broken and all(outcome.right for outcome in outcomes) else 1


def _run(seed: int, brokers: int | None, keep: Path | None, *, always: bool) -> Outcome | None:
    folder = Path(tempfile.mkdtemp(prefix=f"byok-faults-{seed}-"))
    began = time.monotonic()
    outcome = None
    try:

        def say(text: str) -> None:
            _say(f"seed {seed}: {time.monotonic() - began:5.1f} s {text}")

        outcome = run_seed(seed, folder, say, brokers=brokers)
        _report(outcome)
    except Exception:  # noqa: BLE001 - the other seeds are worth running all the same
        _say(f"seed {seed}: {traceback.format_exc()}")
    finally:
        if keep is not None and (always or outcome is None or not outcome.right):
            keep.mkdir(parents=True, exist_ok=True)
            shutil.copytree(folder / "logs", keep / f"seed-{seed}-{int(time.time())}")
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def _report(outcome: Outcome) -> None:
    for finding in outcome.verdict.findings[:_SHOWN]:
        _say(f"seed {outcome.seed}: {finding.kind}: {finding.what}")
    for death in outcome.died:
        _say(f"seed {outcome.seed}: {death}")
    told = ", ".join(f"{name} {value}" for name, value in zip(_HEADINGS[1:], _row(outcome)[1:], strict=True))
    _say(f"seed {outcome.seed}: {'right' if outcome.right else 'WRONG'}: {told}")


def _row(outcome: Outcome) -> tuple[str, ...]:
    verdict = outcome.verdict
    counts = (verdict.count(kind) for kind in ("wrong", "lost", "doubled", "conservation"))
    events = (verdict.events, outcome.kills, outcome.moves, verdict.corrections)
    numbers = (outcome.seed, outcome.brokers, *events, *counts)
    return (*map(str, numbers), f"{outcome.rest_seconds:.1f}", f"{outcome.seconds:.0f}")


def _table(outcomes: Sequence[Outcome]) -> None:
    rows = [_row(outcome) for outcome in outcomes]
    summed = [str(sum(int(row[column]) for row in rows)) for column in range(2, 2 + len(_COUNTED))]
    slowest = max((outcome.rest_seconds for outcome in outcomes), default=0.0)
    rows.append(("all", "", *summed, f"{slowest:.1f}", f"{sum(outcome.seconds for outcome in outcomes):.0f}"))
    for row in (_HEADINGS, *rows):
        _say("  ".join(cell.rjust(max(len(heading), 6)) for cell, heading in zip(row, _HEADINGS, strict=True)))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
