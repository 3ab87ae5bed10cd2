"""The kinds of values that every message is made of (docs/contract.md, Values), without what reads records."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.fields import EventId, Id, parse_time
from schemas.usage_events import TokenUsage
from tests.factories import utc, wire


@pytest.mark.parametrize(("kind", "limit"), [(Id, 128), (EventId, 256)])
def test_ids_are_counted_in_bytes_of_utf_8(kind, limit):
    adapter = TypeAdapter(kind)
    for fine in ("x", "x" * limit, "é" * (limit // 2), "🔑" * (limit // 4)):
        assert adapter.validate_python(fine) == fine
    for refused in ("", "x" * (limit + 1), "é" * (limit // 2) + "x", "🔑" * (limit // 4) + "x", "a\x00", "a\x85", 5):
        with pytest.raises(ValidationError):
            adapter.validate_python(refused)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-05-01T14:00:00.1234567+02:00", "2026-05-01T12:00:00.123456"),
        ("2026-05-01t12:00:00z", "2026-05-01T12:00:00"),
        ("1999-12-31T23:59:59-00:01", "2000-01-01T00:00:59"),
    ],
)
def test_times_are_kept_in_utc_with_microseconds(text, at):
    assert parse_time(text) == utc(at)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (5, "as a string"),
        ("2026-05-01T12:00:00", "with an offset"),
        ("2026-02-29T12:00:00Z", "is not a time that exists"),
        ("0001-01-01T00:00:00+14:00", "is not a time that exists"),
        ("9999-12-31T23:59:59-14:00", "is not a time that exists"),
        ("1999-12-31T23:59:59Z", "2000 to 2100"),
        ("2100-12-31T23:59:59-00:01", "2000 to 2100"),
    ],
)
def test_a_time_that_is_none_is_refused_with_the_reason(value, problem):
    with pytest.raises(ValueError, match=problem):
        parse_time(value)


def test_cached_tokens_are_part_of_the_input():
    event = wire("usage.token_usage.v1", cached_input_tokens=1_000)
    assert TokenUsage.model_validate(event).data.cached_input_tokens == 1_000
    event["data"]["cached_input_tokens"] = 1_001
    with pytest.raises(ValidationError, match="must not exceed input_tokens"):
        TokenUsage.model_validate(event)
