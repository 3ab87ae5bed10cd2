"""When two ledgers may differ in an identity, and when they must not."""

from __future__ import annotations

import pytest

from schemas.dead_letters import Reason
from services.proof.replay.comparison import (
    CONFLICT,
    GONE,
    REFUSED_THEN,
    UNPRICED,
    Account,
    Comparison,
    Evidence,
    Place,
    compare,
)

HERE, THERE, GONE_PLACE = Place(0, 5, 0), Place(1, 7, 0), Place(0, 1, 0)


def account(place=HERE, *, payload=b"a", event_id="e", charges=1, amount=1):
    sums = (amount, amount, 0, 1, 0, 0, 0)
    return Account(("o", "s", event_id), charges, payload, sums, ("byok", *[None] * 7), place)


def compared(ledger, replay, ledger_refused=None, replay_refused=None) -> Comparison:
    evidence = Evidence(
        in_topic=lambda place: place.offset >= 2,
        ledger_refused=(ledger_refused or {}).get,
        replay_refused=(replay_refused or {}).get,
    )
    return compare(ledger, replay, evidence, lambda _done: None)


def test_the_same_accounts_have_the_same_digest_wherever_they_were_read():
    found = compared([account(HERE)], [account(THERE)])
    assert (found.differences, found.not_compared) == (0, {})
    assert found.ledger.digest == found.replay.digest


def test_nothing_is_asked_of_what_has_the_same_payload():
    def asked(place):
        raise AssertionError(place)

    found = compare([account()], [account(amount=2)], Evidence(asked, asked, asked), lambda _done: None)
    assert found.differences == 1


@pytest.mark.parametrize("other", [account(amount=2), account(charges=2), account(event_id="f"), account(payload=b"b")])
def test_anything_else_is_a_difference_and_another_digest(other):
    found = compared([other], [account()])
    assert found.differences == (2 if other.identity != account().identity else 1)
    assert found.ledger.digest != found.replay.digest


def test_a_missing_account_in_the_middle_does_not_shift_the_others():
    three = [account(event_id=name) for name in "abc"]
    found = compared([three[0], three[2]], three)
    assert [each.place for each in found.first] == ["o / s / b"]


@pytest.mark.parametrize(
    ("ledger_refused", "replay_refused", "why"),
    [
        ({THERE: Reason.IDENTITY_CONFLICT}, {HERE: Reason.IDENTITY_CONFLICT}, CONFLICT),
        ({THERE: Reason.TIME_IN_FUTURE}, {HERE: Reason.IDENTITY_CONFLICT}, CONFLICT),
        # Without the loser's dead letter on either side, somebody altered what was compared.
        ({THERE: Reason.IDENTITY_CONFLICT}, {}, None),
        ({}, {HERE: Reason.IDENTITY_CONFLICT}, None),
    ],
)
def test_another_winner_of_two_payloads_needs_the_losers_dead_letter(ledger_refused, replay_refused, why):
    found = compared([account(HERE)], [account(THERE, payload=b"b")], ledger_refused, replay_refused)
    assert found.not_compared == ({} if why is None else {why: 1})
    assert found.differences == (1 if why is None else 0)


def test_the_winner_may_be_gone_from_the_topic():
    refused = {THERE: Reason.IDENTITY_CONFLICT}
    assert compared([account(GONE_PLACE)], [account(THERE, payload=b"b")], refused).not_compared == {CONFLICT: 1}


@pytest.mark.parametrize(
    ("booked", "refused", "why"),
    [
        (account(GONE_PLACE), {}, GONE),
        (account(None), {}, GONE),
        (account(HERE), {HERE: Reason.UNPRICED_MODEL}, UNPRICED),
        (account(HERE), {HERE: Reason.INVALID_EVENT}, None),
        (account(HERE), {}, None),
        (account(None, charges=0), {}, None),
    ],
)
def test_what_only_the_ledger_has(booked, refused, why):
    found = compared([booked], [], replay_refused=refused)
    assert found.not_compared == ({} if why is None else {why: 1})
    assert found.differences == (1 if why is None else 0)


@pytest.mark.parametrize("reason", [Reason.TIME_IN_FUTURE, Reason.UNPRICED_MODEL, Reason.IDENTITY_CONFLICT, None])
def test_what_only_the_replay_has(reason):
    found = compared([], [account()], ledger_refused={HERE: reason})
    legitimate = reason in {Reason.TIME_IN_FUTURE, Reason.UNPRICED_MODEL}
    assert found.not_compared == ({f"{REFUSED_THEN} ({reason})": 1} if legitimate else {})
    assert found.differences == (0 if legitimate else 1)
