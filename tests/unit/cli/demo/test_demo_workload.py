"""The simulated use: the same for the same seed, as the wire contract wants it, with the fate it is meant to have."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from schemas.dead_letters import Reason
from services.cli.demo.company import KEYS, ORGANIZATIONS, Arrived, directory
from services.cli.demo.delivery import Expectation, deliveries
from services.cli.demo.workload import simulate
from services.domain.directory import Directory
from services.domain.model_prices import UnpricedError
from services.domain.rating import rate
from services.domain.resolution import Flag
from services.domain.scope import Plan, Scope, ScopeType
from services.domain.usage import EventType, Identity, UsageEvent, payload_hash
from services.key_registry.model_aliases import packaged_aliases
from services.key_registry.rate_cards import packaged_cards
from services.messages.unpriced import why_unpriced
from services.messages.usage_events import Accepted, Rejected, known_fields, read_record

START = datetime(2026, 10, 28, tzinfo=UTC)
END = START + timedelta(days=28)
COUNT = 6_000


@pytest.fixture(scope="module")
def known() -> Directory:
    arrived = [Arrived(key, f"credential-{number}") for number, key in enumerate(KEYS)]
    return directory(START, [document.parse() for document in packaged_cards()], packaged_aliases(), arrived)


@pytest.fixture(scope="module")
def events(known: Directory) -> list[UsageEvent]:
    return simulate(known, seed=1, count=COUNT, start=START, end=END)


def test_the_same_seed_gives_the_same_use(known: Directory, events: list[UsageEvent]) -> None:
    assert simulate(known, seed=1, count=COUNT, start=START, end=END) == events
    assert simulate(known, seed=2, count=COUNT, start=START, end=END) != events


def test_the_use_lies_in_its_time_in_order_and_has_identities_of_its_own(events: list[UsageEvent]) -> None:
    times = [event.occurred_at for event in events]
    assert times == sorted(times)
    assert times[0] >= START
    assert times[-1] < END
    assert len({event.identity for event in events}) == COUNT


def test_everything_that_the_demo_is_to_show_happens(known: Directory, events: list[UsageEvent]) -> None:
    ratings = [rate(event, known) for event in events]
    assert {event.type for event in events} == set(EventType)
    assert {event.org_id for event in events} == {organization.org_id for organization in ORGANIZATIONS}
    assert {rating.card.card for rating in ratings} == {"2026-04-27", "2026-11-01", "2026-11-20"}
    with_own_key = {event.provider for event, rating in zip(events, ratings, strict=True) if rating.amounts.saved_mc}
    assert with_own_key == {"openai", "anthropic", "google", "xai", "deepseek", "fireworks"}
    assert {"mistral", "perplexity"} < {event.provider for event in events}
    levels = {rating.resolution.credential.scope.type for rating in ratings if rating.resolution.credential}
    assert levels == set(ScopeType)
    flags = {flag for rating in ratings for flag in rating.resolution.flags}
    assert {Flag.CREDENTIAL_CLAIM_REJECTED, Flag.PLATFORM_FALLBACK} <= flags
    assert any(event.parent_run_id for event in events)
    assert not all(event.succeeded for event in events)
    assert any(event.cached_input_tokens for event in events)
    assert {"cache_write_5m", "reasoning", "web_search"} <= {unit for event in events for unit, _ in event.usage}
    assert {"processing", "service_tier", "region"} <= {name for event in events for name, _ in event.conditions}
    assert any(rating.priced_model for rating in ratings)
    assert any(event.is_partial for event in events)


def test_every_event_goes_over_the_wire_and_back(events: list[UsageEvent]) -> None:
    for event in events:
        assert read_record(known_fields(event), END) == [Accepted(0, event)]


def test_everything_sent_has_the_fate_that_is_expected(known: Directory, events: list[UsageEvent]) -> None:
    """The rules of the contract, applied once more without broker and database."""
    expectation = Expectation()
    booked: dict[Identity, bytes] = {}
    fates: Counter[str] = Counter()
    for message in deliveries(events, expectation, seed=1):
        (outcome,) = read_record(message.value, END)
        if isinstance(outcome, Rejected):
            fates[outcome.rejection.reason] += 1
            continue
        fates[fate(outcome.event, known, booked)] += 1
    assert booked.keys() == expectation.recorded.keys()
    assert fates.pop("recorded") == COUNT
    assert fates.pop("duplicate") == expectation.duplicates > 10
    assert fates == expectation.dead_letters
    assert expectation.dead_letters.keys() == set(Reason)
    assert expectation.sent == COUNT + expectation.duplicates + expectation.dead_letters.total()


def fate(event: UsageEvent, known: Directory, booked: dict[Identity, bytes]) -> str:
    try:
        rate(event, known)
    except UnpricedError as error:
        return why_unpriced(error).reason
    if event.identity not in booked:
        booked[event.identity] = payload_hash(event)
        return "recorded"
    return "duplicate" if booked[event.identity] == payload_hash(event) else Reason.IDENTITY_CONFLICT


def test_records_of_their_own_are_those_that_no_batch_could_hold(events: list[UsageEvent]) -> None:
    for message in deliveries(events, Expectation(), seed=1):
        if not message.alone:
            assert isinstance(orjson.loads(message.value), dict)


def test_plans_hold_from_their_day_on(known: Directory) -> None:
    assert known.plan_at("brightside", START + timedelta(days=2.9)) is Plan.FREE
    assert known.plan_at("brightside", START + timedelta(days=3)) is Plan.PRO
    assert known.plan_at("meridian", START) is Plan.PRO
    assert known.plan_at("meridian", END) is Plan.ENTERPRISE
    assert known.plan_at("nightowl", END) is Plan.FREE


def test_keys_count_from_their_day_on(known: Directory) -> None:
    team = Scope(ScopeType.TEAM, "growth")
    assert known.active_in("brightside", *team, "openai", START + timedelta(days=4.4)) is None
    assert known.active_in("brightside", *team, "openai", START + timedelta(days=4.5)) is not None
