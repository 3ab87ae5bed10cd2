"""Laws of reading records: whatever the bytes, every element is accepted or refused exactly once."""

from __future__ import annotations

import json
from io import BytesIO, StringIO

from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.cli.usage.formats import TimeFormat
from services.cli.usage.mapping import EventBuilder, Mapped
from services.cli.usage.publication import DryRun, Publication
from services.cli.usage.rejected_rows import RejectedRows
from services.cli.usage.sources import Lines, jsonl_rows
from services.cli.usage.times import Shift, time_reader
from services.ledger.usage_batch import read_events
from services.messages.json_bytes import MalformedJsonError, _sources_by_structure, decode, element_sources
from services.messages.usage_events import Accepted, Rejected, read_record
from services.metering.booking.dead_letters import dead_letter
from services.metering.booking.pricing import Record, read_elements
from services.runtime.refusals import Refusal
from tests.factories import EVENT_TYPES, utc, wire

NOW = utc("2026-05-01T12:30:00")

_TEXTS = st.one_of(
    st.text(max_size=12), st.sampled_from(["", "\x00", "\ud800", "byok", "usage.node_call.v1", "1.0", "x" * 129])
)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    _TEXTS,
    st.sampled_from([2**63, 2**64, -(2**63) - 1, 10**45]),
)
JSON = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_TEXTS, inner, max_size=4)),
    max_leaves=12,
)


@st.composite
def nearly_events(draw: st.DrawFn):
    """An event of which anything may be missing, replaced or added."""
    event = wire(draw(st.sampled_from(EVENT_TYPES)))
    for place in (event, event["data"]):
        for name in draw(st.lists(st.sampled_from(sorted(place)), max_size=2, unique=True)):
            if draw(st.booleans()):
                place.pop(name)
            else:
                place[name] = draw(JSON)
        place.update(
            draw(st.dictionaries(st.sampled_from(["credential", "calls", "team_id", "x", "type"]), JSON, max_size=1))
        )
    return event


ELEMENTS = st.one_of(nearly_events(), st.builds(wire, st.sampled_from(EVENT_TYPES)), JSON)


def encoded(value):
    return json.dumps(value).encode()


@settings(max_examples=150)
@given(
    st.one_of(
        st.binary(max_size=60), JSON.map(encoded), ELEMENTS.map(encoded), st.lists(ELEMENTS, max_size=5).map(encoded)
    )
)
@example(b'{"a": \xff}')
@example(b"[1, 2")
def test_reading_never_raises_and_counts_every_element_exactly_once(value):
    outcomes = read_record(value, NOW)
    try:
        held = decode(value)
    except MalformedJsonError:
        held = None
    is_batch = isinstance(held, list)
    assert [outcome.source_index for outcome in outcomes] == list(range(max(len(held), 1) if is_batch else 1))
    assert all(isinstance(outcome, (Accepted, Rejected)) for outcome in outcomes)
    for outcome in outcomes:
        if isinstance(outcome, Rejected):
            # It will be a row and a header: text, of some length, with an end.
            assert 0 < len(outcome.rejection.detail.encode()) <= 1_200
    assert is_batch or len(outcomes) == 1


def said(outcome):
    return outcome.rejection if isinstance(outcome, Rejected) else outcome.event


@given(st.lists(ELEMENTS, min_size=1, max_size=6), st.data())
def test_neighbours_in_a_batch_change_nothing(elements, data):
    alone = [read_record(encoded([element]), NOW)[0] for element in elements]
    together = read_record(encoded(elements), NOW)
    assert [said(outcome) for outcome in together] == [said(outcome) for outcome in alone]
    index = data.draw(st.integers(0, len(elements) - 1))
    turned = read_record(encoded([elements[index], *elements]), NOW)
    assert said(turned[0]) == said(alone[index])


@given(ELEMENTS)
def test_an_event_is_read_the_same_alone_and_in_a_batch(element):
    if not isinstance(element, list):
        assert read_record(encoded(element), NOW)[0] == read_record(encoded([element]), NOW)[0]


@given(st.lists(JSON, max_size=6), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_slices_of_a_batch_parse_to_the_same_values_and_lie_in_it_in_order(values, indent, ascii_only):
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only)
    try:
        source = text.encode()
    except UnicodeEncodeError:
        return
    elements = element_sources(source)
    assert [json.loads(element) for element in elements] == json.loads(source)
    assert elements == _sources_by_structure(source)
    at = 0
    for element in elements:
        found = source.find(element, at)
        assert found >= at
        assert source[at:found].strip(b" \t\n,[") == b""
        at = found + len(element)
    assert source[at:].strip(b" \t\n[") == b"]"


@given(st.one_of(st.binary(max_size=40), st.lists(ELEMENTS, max_size=4).map(encoded)))
def test_whatever_is_refused_becomes_a_dead_letter_with_its_bytes(value):
    for element in read_elements(Record(0, 0, None, value, 0.0), NOW).elements:
        if element.rejection is not None:
            letter = dead_letter(element, element.rejection)
            assert letter.masked or letter.payload == element.source
            for label in (letter.org_id, letter.event_source, letter.event_id, letter.event_type):
                assert label is None or "\x00" not in label
                assert label is None or label.encode().decode() == label


def said_over_kafka(value):
    """Reason and detail of the dead letter; None where the event is taken."""
    (element,) = read_elements(Record(0, 0, None, value, 0.0), NOW).elements
    letter = None if element.rejection is None else dead_letter(element, element.rejection)
    return None if letter is None else (letter.reason, letter.detail)


def said_over_http(value):
    """The same out of the problem document."""
    try:
        read_events(value, NOW, bytes_max=1_000_000)
    except Refusal as refusal:
        errors = refusal.errors
        if not errors:
            return refusal.code, refusal.detail.removeprefix("The request cannot be read: ").removesuffix(".")
        words = (f"{error['field']}: {error['detail']}" if error["field"] else error["detail"] for error in errors)
        return "/".join({error["code"] for error in errors}), "; ".join(words)[:300]
    return None


def said_of_a_file(line):
    """The same out of the file of rejected rows, for one line of JSON."""
    builder = EventBuilder(
        Mapped(None),
        event_type=None,
        source="file:f",
        read_time=time_reader(TimeFormat.ISO, None),
        shift=Shift(None),
    )
    written = StringIO()
    rows = jsonl_rows(Lines(BytesIO(line)))
    Publication(builder, RejectedRows(written), now=lambda: NOW).run(rows, DryRun(), None)
    if not written.getvalue():
        return None
    row = json.loads(written.getvalue())
    return row["code"], f"{row['field']}: {row['problem']}" if row["field"] else row["problem"]


@settings(max_examples=200)
@given(st.one_of(nearly_events().map(encoded), JSON.map(encoded), st.binary(min_size=1, max_size=60)))
@example(b'{"a": \xff}')
@example(b"[" * 2_000 + b"]" * 2_000)
@example(b'{"type": {"x": ' + b"[" * 1_200 + b"]" * 1_200 + b"}}")
@example(
    encoded(wire("usage.token_usage.v1", org_id="\ud800", input_tokens=-1, model="sk-proj-0123456789abcdefghij" * 9))
)
@example(encoded(wire("usage.tool_call.v1", time="2026-05-01T13:00:00Z") | {"time": "2026-05-01T13:00:00Z"}))
@example(encoded(wire("usage.tool_call.v1") | {"time": "2026-05-01T12:00:00"}))
@example(encoded({**wire("usage.node_call.v1"), "data": None, "time": 5}))
@example(encoded({"type": "usage.node_call.v1"}))
@example(encoded({**wire("usage.node_call.v1"), "type": "usage.node_call.v2"}))
def test_what_one_reader_rejects_all_reject_in_the_same_words(value):
    said = said_over_kafka(value) if not is_a_batch(value) else None
    if said is not None:
        assert said_over_http(value) == said
    line = as_a_line(value)
    if line is not None:
        assert said_of_a_file(line) == said_over_kafka(line)


def is_a_batch(value):
    return value.lstrip(b" \t\n\r").startswith(b"[")


def as_a_line(value):
    """The line with what a file need not say; None where it is none, or holds a batch, which a line never is."""
    if b"\n" in value or not value.strip() or is_a_batch(value) or value.startswith(b"\xef\xbb\xbf"):
        return None
    try:
        held = decode(value)
    except MalformedJsonError:
        return value
    if not isinstance(held, dict):
        return value
    return encoded({"specversion": "1.0", "source": "file:f", "id": "line-1"} | held)
