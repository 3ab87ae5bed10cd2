"""Which report of a key is news, and about which key it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.domain.masking import MASK
from services.key_registry.rules.health import Health, Outcome, Report, is_news

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
REJECTED, ACCEPTED = Outcome.REJECTED, Outcome.ACCEPTED


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("outcome", "seconds", "news"),
    [
        (REJECTED, 59, False),
        (REJECTED, 60, True),
        (ACCEPTED, 0, False),
        (ACCEPTED, 0.001, True),
        (ACCEPTED, -1, False),
        (REJECTED, -90, False),
    ],
)
def test_what_is_newer_and_says_something_else_or_is_a_minute_newer(
    outcome: Outcome, seconds: float, news: bool
) -> None:
    assert is_news(Health(outcome, later(seconds)), Health(REJECTED, NOW)) is news
    assert is_news(Health(outcome, later(seconds)), None)


@pytest.mark.parametrize(
    ("at", "leased_at", "its"), [(0, None, True), (-1, None, False), (9, -1, False), (9, 1, True), (-1, 1, True)]
)
def test_a_lease_tells_which_key_it_is_about_and_without_one_the_time(
    at: int, leased_at: int | None, its: bool
) -> None:
    leased = None if leased_at is None else later(leased_at)
    assert Report(REJECTED, later(at), None, leased).is_of(NOW) is its


def test_what_is_kept_holds_no_time_to_come_and_no_key() -> None:
    said = Report(REJECTED, later(60), "no such key: sk-ant-api03-abcdefghijklmnop")
    assert said.health(NOW) == Health(REJECTED, NOW, f"no such key: {MASK}")
    assert Report(ACCEPTED, later(-60)).health(NOW) == Health(ACCEPTED, later(-60))
