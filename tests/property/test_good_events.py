"""Laws of the quick reader: what it takes, the models read as the same event; and ordinary events it takes."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from services.messages.good_events import _shape, good_event, is_plain
from services.messages.usage_events import RejectedError, read_event
from tests.factories import EVENT_TYPES, wire
from tests.property.test_reading import JSON, nearly_events

_OPTIONAL: dict[str, dict[str, Any]] = {
    "usage.node_call.v1": {"team_id": "team-1", "run_id": "run-1", "calls": 3},
    "usage.token_usage.v1": {"team_id": "team-1", "run_id": "run-1", "cached_input_tokens": 1_000},
    "usage.token_usage.v2": {
        "team_id": None,
        "conditions": {"service_tier": "flex"},
        "usage_status": "partial",
        "provider_request_id": "req-1",
        "provider_cost_usd": "0.0125",
    },
    "usage.tool_call.v1": {"calls": 1_000_000, "succeeded": False},
    "usage.workflow_run.v1": {"team_id": "team-1", "parent_run_id": "run-0"},
}
_TEXTS = [
    *("", "x", "*", "x" * 128, "x" * 129, "x" * 256, "x" * 257, "é" * 64, "é" * 65, "🔑" * 32, "🔑" * 33),
    *("a\x00", "a\x1fb", "a\x7f", "a\x85", "a\n", "a\\b", 'a"b', "byok", "platform", "1.0", "final", "0.5", "0.5\n"),
]
_NUMBERS = [-1, 0, -0.0, 1, 1.0, 1e6, 10**6, 10**6 + 1, 10**10, 10**10 + 1, 2**63, 2**64, True, "1"]
_TIMES = [
    *("2026-05-01T12:00:00Z", "2026-05-01t12:00:00.123456789z", "2026-05-01T12:00:00,5Z", "2026-05-01 12:00:00Z"),
    *("2026-05-01T12:00:00", "2026-05-01T12:00:00+0200", "2026-05-01T12:00:00.5+02:00", "2026-W18-5T12:00:00Z"),
    *("2016-12-31T23:59:60Z", "2016-12-31T12:59:60Z", "1999-12-31T23:59:59Z", "2100-12-31T23:59:59-00:01"),
    *("2026-02-29T12:00:00Z", "20260501T120000Z", "2026-05-01T24:00:00Z", "2026-05-01", "", "２026-05-01T12:00:00Z"),
]
_CLAIMS = [
    *(None, {"source": "byok", "credential_id": "key-1"}, {"source": "platform"}, {"source": "byok"}, {}),
    *({"source": "platform", "credential_id": 5}, {"source": "other"}, {"credential_id": "key-1"}, "byok", []),
]
_COUNTS = [
    *({"input": 0}, {"input": 10**10}, {"input": 10**10 + 1}, {"input": -1}, {"input": 1.0}, {"input": "1"}, {}),
    *({"": 1}, {"é": 1}, {"x" * 129: 1}, {str(n): 1 for n in range(64)}, {str(n): 1 for n in range(65)}),
]
_VALUES = st.sampled_from([*_TEXTS, *_NUMBERS, *_TIMES, *_CLAIMS, *_COUNTS, {"x": "y"}, {"x": "é"}]) | JSON


@st.composite
def events_at_the_edge(draw: st.DrawFn):
    """An event with all of its fields, in which up to three are what they may just be, or may just not be."""
    event_type = draw(st.sampled_from(EVENT_TYPES))
    event = wire(event_type, **_OPTIONAL[event_type], credential=draw(st.sampled_from(_CLAIMS[:3])))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from([event, event["data"]])) if isinstance(event["data"], dict) else event
        place[draw(st.sampled_from([*place, "extra"]))] = draw(_VALUES)
    return event


def read_by_models(raw):
    try:
        return read_event(raw)
    except RejectedError:
        return None


def written(element):
    """As JSON, where it is that: no lone surrogates, no integers without end."""
    try:
        return orjson.dumps(element)
    except TypeError:
        reject()


@settings(max_examples=300)
@given(events_at_the_edge() | nearly_events() | JSON)
@example(wire("usage.token_usage.v1", cached_input_tokens=1_001))
@example(wire(org_id="*"))
@example([])
@example("type")
@example({"type": ["unhashable"]})
def test_what_is_taken_is_read_by_the_models_as_the_same_event(element):
    source = written(element)
    raw = orjson.loads(source)
    found = good_event(raw, plain=is_plain(source))
    assert found is None or found == read_by_models(raw)
    assert found == good_event(raw, plain=False)


@settings(max_examples=200)
@given(events_at_the_edge())
def test_plain_events_that_the_models_read_are_taken(element):
    source = written(element)
    raw = orjson.loads(source)
    if is_plain(source):
        assert good_event(raw, plain=True) == read_by_models(raw)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
@pytest.mark.parametrize("claim", _CLAIMS[:3])
def test_ordinary_events_are_taken(event_type, claim):
    for raw in (wire(event_type), wire(event_type, **_OPTIONAL[event_type], credential=claim, more={"deep": [1]})):
        assert good_event(raw, plain=True) == read_event(raw)


class Unthought(BaseModel):
    of: Annotated[int, Field(multiple_of=2, repr=False), BeforeValidator(int)]


class Within(BaseModel):
    texts: dict[str, Annotated[str, AfterValidator(str.upper)]]


class Unknown(BaseModel):
    number: float


@pytest.mark.parametrize("model", [Unthought, Within, Unknown])
def test_a_rule_of_which_the_quick_reader_knows_nothing_lets_nothing_start(model):
    with pytest.raises(TypeError):
        _shape(model)
