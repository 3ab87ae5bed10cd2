"""The chain of the audit log: any row that is changed, removed, exchanged or put in breaks it, and is named."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.key_registry.audit.chain import GENESIS, BrokenChain, Link, checked, link_hash

START = datetime(2026, 11, 1, 12, 0, 0, 5, UTC)
FIELDS = [name for name in Link._fields if name not in {"seq", "occurred_at", "prev_hash", "hash"}]


def chained(rows: int) -> list[Link]:
    links: list[Link] = []
    for seq in range(1, rows + 1):
        at, prev = START + timedelta(microseconds=seq), links[-1].hash if links else GENESIS
        ends = ("key.lease", "done", None, 0, "acme", f"id-{seq}", "team", "t", "openai", "…7Qx2", '{"é": 1}')
        link = Link(seq, at, "ada", "acme", None, None, "why", *ends, prev, b"")
        links.append(link._replace(hash=link_hash(link)))
    return links


LINKS = chained(8)


def broken(links: list[Link]) -> int:
    with pytest.raises(BrokenChain) as found:
        list(checked(links))
    assert str(found.value.seq) in str(found.value)
    return found.value.seq


def test_what_was_written_holds() -> None:
    assert list(checked(LINKS)) == LINKS
    assert list(checked([])) == []


def test_what_is_hashed_is_fixed() -> None:
    """Written down once, by hand: rows of old must be verified for ever."""
    spelled = (
        "byok audit v1"
        f"64:{'00' * 32},1:1,27:2026-11-01T12:00:00.000006Z,3:ada,4:acme,-,-,3:why,9:key.lease,4:done,-,1:0,4:acme,"
        '4:id-1,4:team,1:t,6:openai,7:…7Qx2,9:{"é": 1},'
    )
    assert LINKS[0].hash == hashlib.sha256(spelled.encode()).digest()
    assert LINKS[0].hash.hex() == "82879e24d930d1aa5587c16ba5d6cd04833ac88d4ad86d7317a25df3e4fa7932"


@given(st.integers(0, 7), st.sampled_from(FIELDS), st.data())
def test_a_changed_field_is_found(place: int, field: str, data: st.DataObject) -> None:
    old = getattr(LINKS[place], field)
    text: st.SearchStrategy[Any] = st.none() | st.text(max_size=12)
    new = data.draw((st.integers(0, 99) if field == "omitted" else text).filter(lambda value: value != old))
    links = [*LINKS[:place], LINKS[place]._replace(**{field: new}), *LINKS[place + 1 :]]
    assert broken(links) == place + 1


@given(st.integers(0, 7), st.integers(1, 10**6))
def test_a_changed_time_is_found(place: int, microseconds: int) -> None:
    moved = LINKS[place]._replace(occurred_at=LINKS[place].occurred_at + timedelta(microseconds=microseconds))
    assert broken([*LINKS[:place], moved, *LINKS[place + 1 :]]) == place + 1


@given(st.integers(0, 6))
def test_a_row_whose_hash_was_adapted_breaks_the_next(place: int) -> None:
    changed = LINKS[place]._replace(actor="mallory")
    changed = changed._replace(hash=link_hash(changed))
    assert broken([*LINKS[:place], changed, *LINKS[place + 1 :]]) == place + 2


@given(st.integers(0, 6))
def test_a_missing_row_is_found(place: int) -> None:
    assert broken([*LINKS[:place], *LINKS[place + 1 :]]) == place + 1


@given(st.integers(0, 6))
def test_exchanged_rows_are_found(place: int) -> None:
    one, two = LINKS[place : place + 2]
    assert broken([*LINKS[:place], two, one, *LINKS[place + 2 :]]) == place + 1
    # Also where their numbers are exchanged back.
    renumbered = [two._replace(seq=one.seq), one._replace(seq=two.seq)]
    assert broken([*LINKS[:place], *renumbered, *LINKS[place + 2 :]]) == place + 1


@given(
    st.lists(st.none() | st.text(max_size=4), min_size=2, max_size=2),
    st.lists(st.none() | st.text(max_size=4), min_size=2, max_size=2),
)
def test_fields_do_not_run_together(one: list[str | None], two: list[str | None]) -> None:
    if one != two:
        hashes = {link_hash(LINKS[0]._replace(request_id=pair[0], reason=pair[1])) for pair in (one, two)}
        assert len(hashes) == 2
