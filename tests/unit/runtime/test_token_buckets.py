"""Token buckets and the rate of a caller: bursts, refilling, bounded memory, and who has none."""

from __future__ import annotations

import pytest

from services.domain.permissions import Caller
from services.runtime.problems import Problem
from services.runtime.rate_limit import RateLimit
from services.runtime.token_buckets import TokenBuckets


class Clock:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    buckets = TokenBuckets(2.0, 3, clock=clock)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("b") == 0
    clock.now += 0.5
    assert [buckets.take("a"), buckets.take("a")] == [0, 0.5]
    clock.now += 3_600
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_a_refusal_costs_nothing() -> None:
    clock = Clock()
    buckets = TokenBuckets(1.0, 1, clock=clock)
    assert buckets.take("a") == 0
    assert [buckets.take("a") for _ in range(100)] == [1.0] * 100
    clock.now += 1
    assert buckets.take("a") == 0


def test_memory_is_bounded_by_forgetting_who_was_away_longest() -> None:
    buckets = TokenBuckets(0.001, 1, keys_max=3, clock=Clock())
    for key in ("a", "b", "c", "a", "d"):
        buckets.take(key)
    # b was forgotten, and a was not, since it came again.
    assert buckets.take("a") > 0
    assert buckets.take("b") == 0


def caller(sub: str, org_id: str, role: str | None = None) -> Caller:
    return Caller(sub, org_id, role, {}, frozenset())


def test_each_caller_has_a_rate_of_its_own() -> None:
    limit = RateLimit(0.2, 1)
    limit.admit(caller("uma", "acme"))
    with pytest.raises(Problem) as refused:
        limit.admit(caller("uma", "acme"))
    assert (refused.value.status, refused.value.code) == (429, "rate_limited")
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 5
    limit.admit(caller("uma", "brio"))
    limit.admit(caller("bob", "acme"))


def test_an_operator_has_no_rate() -> None:
    limit = RateLimit(0.001, 1)
    operator = caller("platform", "*", role="admin")
    for _ in range(50):
        limit.admit(operator)
    for limited in (caller("runner", "*"), caller("ada", "acme", role="admin")):
        limit.admit(limited)
        with pytest.raises(Problem):
            limit.admit(limited)
