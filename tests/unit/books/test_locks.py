"""Whoever takes an advisory lock means one thing by it, in this release and in every other."""

from __future__ import annotations

from services.books import locks
from services.key_registry.log.relay import RELAY_LOCK
from services.runtime.migrations import MIGRATION_LOCK

LEDGER = {name: number for name, number in vars(locks).items() if name.isupper()} | {"MIGRATION": MIGRATION_LOCK}


def test_no_number_is_taken_twice_in_one_database():
    assert len(set(LEDGER.values())) == len(LEDGER)
    assert RELAY_LOCK != MIGRATION_LOCK


def test_the_numbers_are_those_of_every_release_that_may_still_run():
    assert LEDGER == {
        "MIGRATION": 4_270_001,
        "FENCE": 4_270_002,
        "RERATER": 4_270_003,
        "DEAD_LETTER_RELAY": 4_270_004,
        "APPEND": 4_270_005,
        "UPKEEP": 4_270_010,
        "SEQUENCER": 4_270_011,
    }
    assert RELAY_LOCK == 4_270_002
