"""The short version of `make faults`: random faults under load, and an oracle of the tests' own afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.runs import run_seed
from tests.kafka.needed import need_apache_kafka


@pytest.mark.slow
@pytest.mark.parametrize("seed", [101, 102])
def test_random_faults_leave_the_ledger_right(seed: int, tmp_path: Path) -> None:
    need_apache_kafka()
    outcome = run_seed(seed, tmp_path / "data", print, faults=4)
    assert outcome.right, (outcome.verdict.findings[:5], outcome.died)
    assert outcome.verdict.corrections, "nothing came late: this run proves nothing"
    assert outcome.kills
