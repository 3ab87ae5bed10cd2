"""What the ledger's answers mean for a batch."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from byok_sdk.delivery import Answer, SetAside, Settle, Split, Wait, Waiting, delays, verdict

BATCH = [Waiting(row, b"{}") for row in (11, 12, 13)]


def answer(status: int, body: Any = None, retry_after: str | None = None) -> Answer:
    return Answer(status, b"<html>" if body is None else json.dumps(body).encode(), retry_after)


def test_202_is_the_whole_batch() -> None:
    assert verdict(answer(202, {"accepted": 3}), BATCH) == Settle([11, 12, 13])


@pytest.mark.parametrize(
    "told",
    [
        answer(202),
        answer(202, {"accepted": 2}),
        answer(200, {"accepted": 3}),
        answer(204),
        answer(301),
        answer(207, {"accepted": 3, "refused": 0, "errors": [{"index": 0, "code": "invalid_event"}]}),
        answer(207, {"accepted": 2, "refused": 1, "errors": []}),
        answer(500),
        answer(503, {"code": "broker_unavailable"}),
        answer(401, {"code": "invalid_token"}),
        answer(403, {"code": "insufficient_scope"}),
        answer(404, {"code": "not_found"}),
        answer(400),
        answer(403),
    ],
    ids=lambda told: f"{told.status} {told.body[:40]!r}",
)
def test_whatever_is_not_the_ledger_s_word_on_these_events_forgets_none_of_them(told: Answer) -> None:
    assert isinstance(verdict(told, BATCH), Wait)


def test_of_a_batch_that_is_partly_good_the_good_ones_are_done_with() -> None:
    errors = [
        {"index": 1, "field": "data.model", "code": "unpriced_model", "detail": "is on no card"},
        {"index": 1, "field": "data.usage", "code": "unpriced_model", "detail": "neither"},
        {"index": 2, "field": "", "code": "dead_letter_quota", "detail": "too many"},
    ]
    told = verdict(answer(207, {"accepted": 1, "refused": 2, "errors": errors}), BATCH)
    assert told == Settle([11], [SetAside(12, "unpriced_model", "data.model: is on no card")], [13])


def test_where_none_is_good_the_named_ones_are_set_aside_and_the_rest_is_sent_again() -> None:
    errors = [{"index": 0, "field": "time", "code": "invalid_event", "detail": "is no time"}]
    told = verdict(answer(422, {"code": "invalid_event", "errors": errors}), BATCH)
    assert told == Settle([], [SetAside(11, "invalid_event", "time: is no time")], [])


@pytest.mark.parametrize(
    "told",
    [
        answer(403, {"code": "organization_forbidden", "detail": "another's"}),
        answer(400, {"code": "malformed_json", "detail": "cannot be read"}),
        answer(413),
        answer(422, {"code": "invalid_request", "errors": [{"field": "body", "detail": "is wrong"}]}),
    ],
)
def test_an_answer_that_names_no_event_halves_the_batch_until_one_is_left(told: Answer) -> None:
    assert verdict(told, BATCH) == Split()
    alone = verdict(told, BATCH[:1])
    code = json.loads(told.body)["code"] if told.body != b"<html>" else None
    if code is None:
        # A proxy's own page says nothing of the event.
        assert isinstance(alone, Wait)
    else:
        assert isinstance(alone, Settle)
        assert [(each.row, each.code) for each in alone.rejected] == [(11, code)]


def test_who_asks_for_patience_gets_it() -> None:
    told = verdict(answer(429, {"code": "rate_limited", "detail": "too often"}, "17"), BATCH)
    assert told == Wait("429 rate_limited too often", 17.0)
    assert verdict(answer(503, None, "99999999"), BATCH) == Wait("503", 3600.0)
    assert verdict(answer(503, None, "Sun, 29 Nov 2026 09:00:00 GMT"), BATCH) == Wait("503", 0.0)


def test_who_waits_waits_longer_and_longer_without_end() -> None:
    waited = list(itertools.islice(delays(0.5, 60), 20))
    assert all(
        0.5 * longest <= delay <= longest
        for delay, longest in zip(waited, [0.5 * 2**n for n in range(7)], strict=False)
    )
    assert all(30 <= delay <= 60 for delay in waited[8:])
