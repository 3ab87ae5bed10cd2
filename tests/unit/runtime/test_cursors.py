"""Cursors: what was given out is read again, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.cursors import decode_cursor, encode_cursor

PLACES = st.one_of(st.integers(0, 2**63 - 1), st.lists(st.text(max_size=40), max_size=4))


@given(PLACES)
def test_what_was_given_out_is_read_again(place: object) -> None:
    cursor = encode_cursor(place)
    assert decode_cursor(cursor) == place
    assert cursor.isascii()
    assert not set(cursor) & set("+/=")


@pytest.mark.parametrize(
    ("cursor", "place"),
    [
        ("MTIz", 123),
        (
            "WyIyMDI2LTA1LTAxVDEyOjAwOjAwKzAwOjAwIiwgIjFhIiwgImFzYyJd",
            ["2026-05-01T12:00:00+00:00", "1a", "asc"],
        ),
    ],
)
def test_cursors_that_clients_hold_are_read(cursor: str, place: object) -> None:
    assert decode_cursor(cursor) == place
    assert encode_cursor(place) == cursor


@pytest.mark.parametrize(
    "cursor", ["", "x", "MTIz=", "MTIz==", "MTIzIA", "MDA3", "K7y_", "ü", "W10 ", "MTIz\n", "W1tb" * 10_000, "TmFO"]
)
def test_nothing_else_is(cursor: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        decode_cursor(cursor)
