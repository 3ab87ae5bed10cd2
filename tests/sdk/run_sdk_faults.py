"""`make sdk-faults SEED=… RUNS=…`: runners that are killed while the ledger fails, as a table; 1 where one is wrong."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.running import start_stack
from tests.sdk.killed_runners import Chaos, run_chaos

_HEADINGS = ("seed", "kills", "faults", "recorded", "refused", "sent", "booked", "lost", "wrong", "run s")


def main() -> int:
    """Run the seeds one after the other, on one stack."""
    parser = argparse.ArgumentParser(prog="make sdk-faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds, counted up from the first")
    options = parser.parse_args()
    done: list[Chaos] = []
    with tempfile.TemporaryDirectory(prefix="byok-sdk-faults-") as folder, start_stack(Path(folder) / "stack") as stack:
        _say([_HEADINGS])
        for seed in range(options.seed, options.seed + options.runs):
            done.append(run_chaos(stack, seed, Path(folder) / f"spool-{seed}"))
            _say([_row(done[-1])])
            for finding in (*done[-1].lost, *done[-1].wrong)[:5]:
                sys.stdout.write(f"{finding}\n")
    rows = [_row(each) for each in done]
    _say([("all", *(str(sum(int(row[column]) for row in rows)) for column in range(1, len(_HEADINGS))))])
    return 0 if all(each.right for each in done) else 1


def _row(chaos: Chaos) -> tuple[str, ...]:
    counted = (chaos.kills, chaos.faults, chaos.recorded, chaos.refused, chaos.counts.accepted, chaos.booked)
    return tuple(map(str, (chaos.seed, *counted, len(chaos.lost), len(chaos.wrong), round(chaos.seconds))))


def _say(rows: Sequence[Sequence[str]]) -> None:
    for row in rows:
        sys.stdout.write("  ".join(cell.rjust(8) for cell in row) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
