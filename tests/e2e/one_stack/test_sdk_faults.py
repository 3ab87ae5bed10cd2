"""The short version of `make sdk-faults`: runners are killed with -9, and the ledger has every act, once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.running import Stack
from tests.sdk.killed_runners import run_chaos


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_act_that_was_recorded_is_booked_once_whatever_was_killed(
    stack: Stack, seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    chaos = run_chaos(stack, seed, tmp_path / "spool")
    record_property(
        "figures",
        f"{chaos.recorded:,} acts, {chaos.kills} kills, {chaos.faults} faults of the ledger, {chaos.refused} refused by"
        f" the disk; {chaos.counts.accepted:,} sent, {chaos.booked:,} booked, {chaos.seconds:.0f} s",
    )
    assert chaos.right, (chaos.lost[:5], chaos.wrong[:5], chaos.counts)
