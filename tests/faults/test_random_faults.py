"""The short version of `make faults`, on one broker and on three; an oracle of the tests' own judges afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.runs import run_seed
from tests.kafka.needed import need_apache_kafka


@pytest.mark.slow
@pytest.mark.parametrize("seed", [101, 102])
def test_random_faults_leave_the_ledger_right(
    seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    need_apache_kafka()
    outcome = run_seed(seed, tmp_path / "data", print, faults=4)
    record_property(
        "figures",
        f"{outcome.brokers} brokers: {outcome.verdict.events:,} events, {outcome.verdict.corrections:,} corrections,"
        f" {outcome.kills} kills, {outcome.moves} leaders moved; at rest after {outcome.rest_seconds:.1f} s,"
        f" {outcome.seconds:.0f} s in all",
    )
    assert outcome.right, (outcome.verdict.findings[:5], outcome.died)
    assert outcome.verdict.corrections, "nothing came late: this run proves nothing"
    assert outcome.kills
