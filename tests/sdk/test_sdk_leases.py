"""How long a lease serves, and what ends it sooner."""

from __future__ import annotations

import pickle
import traceback
from datetime import UTC, datetime
from typing import Any

import pytest
from byok_sdk.changes import ChangeFeed, Dropped
from byok_sdk.delivery import Answer
from byok_sdk.errors import NoOwnKeyError, RegistryAwayError, RegistryRefusedError
from byok_sdk.leases import Flight, Lease, LeaseCache, LeaseKey, Next
from byok_sdk.registry_calls import read_lease, report_call

KEY = LeaseKey("acme", "u1", "t1", "anthropic")
SECRET = "sk-ant-made-up-0123456789"


def answer(**changes: Any) -> Answer:
    told: dict[str, Any] = {
        "provider": "anthropic",
        "source": "byok",
        "reason": "team_key",
        "credential_id": "c-1",
        "at": "2026-11-29T09:30:00Z",
        "expires_at": "2026-11-29T09:35:00Z",
        "ttl_seconds": 300,
        "secret": SECRET,
    }
    return Answer(200, str_json(told | changes))


def str_json(told: dict[str, Any]) -> bytes:
    import json

    return json.dumps(told).encode()


def own(key: LeaseKey = KEY) -> Lease:
    return read_lease(key, answer())


def platform(key: LeaseKey = KEY) -> Lease:
    return read_lease(key, answer(source="platform", reason="no_credential", credential_id=None, secret=None))


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> LeaseCache:
    return LeaseCache(clock, lambda low, _high: low)


def landed(cache: LeaseCache, lease: Lease) -> None:
    assert cache.landed(begun(cache, lease.key), lease)


def begun(cache: LeaseCache, key: LeaseKey = KEY) -> Flight:
    flight = cache.begin(key)
    assert flight is not None
    return flight


def test_a_lease_serves_a_minute_and_is_renewed_by_one_before_its_end(cache: LeaseCache, clock: Clock) -> None:
    assert cache.look(KEY) == (Next.FETCH, None)
    lease = own()
    landed(cache, lease)
    clock.now += 41.9
    assert cache.look(KEY) == (Next.USE, lease)
    clock.now += 0.1
    assert cache.look(KEY) == (Next.USE_AND_REFRESH, lease)
    assert cache.look(KEY) == (Next.USE, lease)
    clock.now += 18
    assert cache.look(KEY) == (Next.FETCH, None)


def test_that_there_is_no_key_is_known_for_five_seconds(cache: LeaseCache, clock: Clock) -> None:
    landed(cache, platform())
    clock.now += 4.9
    assert cache.look(KEY)[1] is not None
    clock.now += 0.1
    assert cache.look(KEY) == (Next.FETCH, None)


def test_one_asks_and_all_get_the_answer(cache: LeaseCache) -> None:
    flight = begun(cache)
    assert cache.begin(KEY) is None
    assert cache.begin(KEY._replace(user_id="u2")) is not None
    assert cache.landed(flight, own())
    assert cache.begin(KEY) is not None


def test_while_the_registry_is_away_a_lease_serves_until_300_s_after_its_end(cache: LeaseCache, clock: Clock) -> None:
    lease = own()
    landed(cache, lease)
    began = clock.now
    while clock.now < began + 600 - 5:
        clock.now += 5
        assert cache.failed(begun(cache)) is lease
        # Not each call waits for what does not answer.
        assert cache.look(KEY) == (Next.USE, lease)
    clock.now = began + 600
    assert cache.look(KEY) == (Next.FETCH, None)
    assert cache.failed(begun(cache)) is None


@pytest.mark.parametrize(
    ("org_id", "provider", "left"),
    [("acme", "anthropic", 2), ("acme", None, 1), (None, None, 0), ("other", "openai", 3), ("x", None, 4)],
)
def test_a_change_drops_all_of_its_organization_and_provider(
    cache: LeaseCache, org_id: str | None, provider: str | None, left: int
) -> None:
    keys = [
        KEY,
        KEY._replace(user_id="u2"),
        KEY._replace(provider="openai"),
        KEY._replace(org_id="other", provider="openai"),
    ]
    for key in keys:
        landed(cache, platform(key))
    cache.drop(org_id, provider)
    assert sum(cache.look(key)[1] is not None for key in keys) == left


def test_what_was_asked_before_a_change_is_asked_again(cache: LeaseCache) -> None:
    flight = begun(cache)
    cache.drop("acme", "anthropic")
    assert not cache.landed(flight, own())
    assert cache.look(KEY) == (Next.FETCH, None)
    flight = begun(cache)
    cache.drop("acme", "openai")
    assert cache.landed(flight, own())


def test_what_the_registry_refuses_is_not_served_any_more(cache: LeaseCache) -> None:
    landed(cache, own())
    cache.refused(begun(cache))
    assert cache.look(KEY) == (Next.FETCH, None)


# --- what the registry answers ----------------------------------------------------------------------------------------


def test_a_key_shows_itself_only_to_who_asks_for_it() -> None:
    lease = own()
    assert lease.secret == SECRET
    assert SECRET not in f"{lease} {lease!r} {lease._secret} {lease._secret!r} {lease._secret:>40} {vars(lease)}"
    for hidden in (lease, lease._secret):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(hidden)


def test_what_the_platform_pays_is_a_choice() -> None:
    assert own().or_otherwise("raise").claim == {"source": "byok", "credential_id": "c-1"}
    assert platform().or_otherwise("platform").claim == {"source": "platform"}
    with pytest.raises(NoOwnKeyError, match="no_credential"):
        platform().or_otherwise("raise")


@pytest.mark.parametrize(
    ("told", "error"),
    [
        (Answer(403, b'{"code": "insufficient_scope"}'), RegistryRefusedError),
        (Answer(422, b'{"code": "invalid_request"}'), RegistryRefusedError),
        (Answer(503, b'{"code": "credential_unusable"}', "2"), RegistryAwayError),
        (Answer(429, b'{"code": "rate_limited"}', "2"), RegistryAwayError),
        (Answer(200, b"<html>"), RegistryAwayError),
        (answer(at=SECRET), RegistryAwayError),
    ],
)
def test_what_is_no_lease_is_an_error_without_the_key(told: Answer, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        read_lease(KEY, told)
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_a_report_does_not_repeat_the_key() -> None:
    at = datetime(2026, 11, 29, 9, 31, tzinfo=UTC)
    call = report_call(own(), "rejected", at, f"no such key: {SECRET}" + "!" * 300)
    assert call.body is not None
    assert call.body["leased_at"] == "2026-11-29T09:30:00.000000Z"
    assert SECRET not in str(call)
    assert len(call.body["detail"]) == 200


# --- what changes -----------------------------------------------------------------------------------------------------


def heard(feed: ChangeFeed, status: int = 200, **told: Any) -> tuple[tuple[Dropped, ...], float]:
    return feed.hear(Answer(status, str_json(told)))


def test_a_change_is_heard_in_its_place() -> None:
    feed = ChangeFeed()
    assert feed.question().query == {}
    assert heard(feed, changes=[], next_after=7, more=False) == ((Dropped(),), 0)
    assert feed.question().query == {"after": "7", "wait": "25"}
    changes = [
        {"seq": 8, "kind": "credential", "org_id": "acme", "provider": "openai"},
        {"seq": 9, "kind": "plan", "org_id": "other"},
        {"seq": 10, "kind": "rate_card", "name": "2026-12-01"},
    ]
    assert heard(feed, changes=changes, next_after=10, more=False) == ((Dropped("acme", "openai"), Dropped("other")), 0)
    assert feed.question().query["after"] == "10"


def test_a_registry_that_was_restored_ends_all_leases() -> None:
    feed = ChangeFeed()
    heard(feed, changes=[], next_after=7, more=False)
    assert heard(feed, 409, code="ahead_of_log") == ((Dropped(),), 0)
    assert feed.question().query == {}


def test_where_too_many_wait_it_asks_now_and_then() -> None:
    feed = ChangeFeed()
    heard(feed, changes=[], next_after=7, more=False)
    assert heard(feed, 503, code="busy") == ((), 5.0)
    assert feed.question().query == {"after": "7"}
    assert heard(feed, changes=[], next_after=7, more=False) == ((), 5.0)
    assert feed.question().query == {"after": "7", "wait": "25"}


def test_who_hears_nothing_says_so_and_goes_on_where_it_was() -> None:
    feed = ChangeFeed()
    heard(feed, changes=[], next_after=7, more=False)
    assert heard(feed, 503, code="database_unavailable")[1] > 0
    assert feed.trouble == "503 database_unavailable"
    assert feed.lost("ConnectError").pause > 0
    assert feed.question().query["after"] == "7"
    heard(feed, changes=[], next_after=7, more=False)
    assert feed.trouble is None
