"""By what a row is known again."""

from __future__ import annotations

from typing import Any

import pytest

from services.cli.usage.identity import ColumnsIdentity, LineIdentity, RowIdentity, identity_from
from services.cli.usage.sources import Row
from services.messages.usage_events import RejectedError


def row(line: int = 2, **cells: Any) -> Row:
    return Row(line, cells)


def test_a_line_is_where_the_row_stands() -> None:
    assert identity_from([])(row(7, a="x")) == identity_from(["line"])(row(7, a="y")) == "line-7"
    assert not LineIdentity().wins


def test_a_row_is_all_that_it_says_wherever_and_in_whatever_order() -> None:
    identity = RowIdentity()
    first = identity(row(2, a="1", b="2", note=""))
    # For ever: a file that is published again must have the same ids.
    assert first == "row-0e09eeab5bdeab40e2af08a4432d53de"
    assert RowIdentity()(Row(9, {"b": "2", "a": "1"})) == first
    assert RowIdentity()(row(2, a="1", b="3")) != first


def test_rows_that_say_the_same_are_told_apart_by_their_number() -> None:
    identity = RowIdentity()
    ids = [identity(row(line, a="1")) for line in range(3)]
    assert ids == [ids[0], f"{ids[0]}-2", f"{ids[0]}-3"]
    assert identity.repeated == 2
    # However the file grows, the same rows have the same ids.
    grown = RowIdentity()
    assert {grown(row(0, a="2")), *(grown(row(line, a="1")) for line in range(3))} >= set(ids)


def test_one_column_is_the_id_and_several_are_an_array() -> None:
    assert ColumnsIdentity(["request"])(row(request=" chatcmpl-1 ")) == "chatcmpl-1"
    assert ColumnsIdentity(["day", "model.name"])(row(day="d", model={"name": 'a"b'})) == '["d", "a\\"b"]'
    assert ColumnsIdentity(["day", "key"])(row(day="d", key=None)) == '["d", ""]'


def test_an_id_that_would_be_too_long_is_a_hash() -> None:
    assert ColumnsIdentity(["a"])(row(a="x" * 256)) == "x" * 256
    long = ColumnsIdentity(["a"])(row(a="x" * 257))
    assert long.startswith("sha256-")
    assert len(long) == 71


def test_a_row_that_says_nothing_in_its_columns_has_no_id() -> None:
    with pytest.raises(RejectedError, match="id: is empty: request, day"):
        ColumnsIdentity(["request", "day"])(row(request="", day=" "))


@pytest.mark.parametrize("names", [["row", "a"], ["line", "row"]])
def test_line_and_row_stand_alone(names: list[str]) -> None:
    with pytest.raises(ValueError, match="line and row stand alone"):
        identity_from(names)
