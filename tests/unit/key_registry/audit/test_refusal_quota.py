"""Refusals in the audit log: the first ones are written, a flood is counted, and no flood fills the disk."""

from __future__ import annotations

from services.key_registry.audit.refusal_quota import RefusalQuota

DAY_SECONDS = 86_400


class Clock:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_left_out_is_counted_with_the_next() -> None:
    clock = Clock()
    quota = RefusalQuota(clock)
    assert [quota.admit("mallory") for _ in range(60)] == [0] * 50 + [None] * 10
    assert quota.admit("uma") == 0
    clock.now += 10
    assert quota.admit("mallory") == 10
    assert quota.admit("mallory") is None
    clock.now += 10
    assert quota.admit("mallory") == 1


def test_a_day_of_attack_by_many_is_bounded() -> None:
    clock = Clock()
    quota = RefusalQuota(clock)
    written = 0
    for second in range(0, DAY_SECONDS, 60):
        clock.now = second
        written += sum(quota.admit(attacker) is not None for attacker in range(100))
    assert written <= DAY_SECONDS + 1_000


def test_every_refusal_is_written_or_counted() -> None:
    clock = Clock()
    quota = RefusalQuota(clock)
    told = 0
    for step in range(5_000):
        clock.now = step * 0.7
        omitted = quota.admit("mallory")
        told += 0 if omitted is None else 1 + omitted
    clock.now += 100
    last = quota.admit("mallory")
    assert last is not None
    assert told + 1 + last == 5_001
