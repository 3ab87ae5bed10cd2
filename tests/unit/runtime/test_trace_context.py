"""Trace Context as W3C has it: what is taken up, and that nobody is refused for what is none."""

from __future__ import annotations

import pytest

from services.runtime.trace_context import TraceContext, new_trace, read_traceparent, trace_in

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (f"00-{TRACE}-{SPAN}-01", TraceContext(TRACE, SPAN, sampled=True)),
        (f"00-{TRACE}-{SPAN}-00".encode(), TraceContext(TRACE, SPAN)),
        # Of the flags only the first is known.
        (f"00-{TRACE}-{SPAN}-fe", TraceContext(TRACE, SPAN)),
        # A later version may say more.
        (f"01-{TRACE}-{SPAN}-01-more", TraceContext(TRACE, SPAN, sampled=True)),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
        (f"01-{TRACE}-{SPAN}-01-{'x' * 300}", None),
        ("sk-ant-api03-abcdefghijklmnopqrstuvwxyz012345", None),
        (b"\xff\xfe", None),
        ("", None),
        (None, None),
        (17, None),
    ],
)
def test_what_is_taken_up(value: object, found: TraceContext | None) -> None:
    assert read_traceparent(value) == found


def test_what_is_written_is_read_again() -> None:
    for trace in (new_trace(), new_trace().child(), TraceContext(TRACE, SPAN, sampled=True)):
        assert read_traceparent(str(trace)) == trace


def test_a_part_of_a_trace_has_an_id_of_its_own() -> None:
    trace = new_trace()
    assert trace.child().trace_id == trace.trace_id
    assert trace.child().span_id != trace.span_id
    assert new_trace().trace_id != trace.trace_id


def test_the_first_header_of_a_record_that_names_a_trace_counts() -> None:
    value = f"00-{TRACE}-{SPAN}-01".encode()
    assert trace_in([("other", b"x"), ("traceparent", value)]) == read_traceparent(value)
    assert trace_in([("traceparent", None), ("traceparent", value)]) is None
    assert trace_in(()) is None
    assert trace_in(None) is None
