"""Files as other programs write them: encodings, separators, JSON documents, long tables; which rows are meant."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from services.cli.usage.cells import cell
from services.cli.usage.json_document import document_rows
from services.cli.usage.long_format import LongFormat
from services.cli.usage.selection import Selection, parse_where
from services.cli.usage.sources import CsvTable, Lines, Row, Unreadable
from services.cli.usage.text_encoding import as_utf8
from services.runtime.command_failed import CommandFailed


def read(data: bytes, encoding: str | None = None) -> bytes:
    return as_utf8(io.BufferedReader(io.BytesIO(data)), encoding).read()


def csv_rows(text: str, delimiter: str | None = None) -> list[Row | Unreadable]:
    return list(CsvTable(Lines(io.BytesIO(text.encode())), delimiter).rows())


# --- encodings --------------------------------------------------------------------------------------------------------

TEXT = "zeit;wer\r\n2026-11-20;Jörg 🎉\r\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8"])
def test_the_first_bytes_say_the_encoding(encoding: str) -> None:
    assert read(TEXT.encode(encoding)).decode() == TEXT


def test_an_encoding_may_be_named() -> None:
    assert read("Jörg".encode("cp1252"), "cp1252").decode() == "Jörg"
    assert read(TEXT.encode("utf-16-le"), "utf-16-le").decode() == TEXT
    assert read(TEXT.encode(), "utf-8").decode() == TEXT
    with pytest.raises(CommandFailed, match="--encoding klingon: there is no such encoding"):
        read(b"x", "klingon")
    with pytest.raises(CommandFailed, match="no such encoding"):
        read(b"x", "base64")


@pytest.mark.parametrize(("encoding", "hint"), [("utf-16-le", "utf-16-le"), ("utf-16-be", "utf-16-be")])
def test_an_encoding_that_nothing_names_is_told(encoding: str, hint: str) -> None:
    with pytest.raises(CommandFailed, match=f"looks like UTF-16: --encoding {hint} reads it"):
        read(TEXT.encode(encoding))


def test_what_is_no_text_harms_its_own_row_alone() -> None:
    data = "a\nx\ny\n".encode("utf-16-le")
    broken = data.replace("x".encode("utf-16-le"), b"\x00\xd8")
    file = as_utf8(io.BufferedReader(io.BytesIO(b"\xff\xfe" + broken)), None)
    bad, good = CsvTable(Lines(file)).rows()
    assert isinstance(bad, Unreadable)
    assert (bad.line, good) == (2, Row(3, {"a": "y"}))


def test_a_file_that_ends_in_the_middle_of_a_character_loses_no_row() -> None:
    file = as_utf8(io.BufferedReader(io.BytesIO("a\nx\ny".encode("utf-16")[:-1])), None)
    first, last = CsvTable(Lines(file)).rows()
    assert first == Row(2, {"a": "x"})
    assert isinstance(last, Unreadable)


# --- separators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_header_says_what_parts_the_fields(delimiter: str) -> None:
    assert csv_rows(f"a{delimiter}b\n1{delimiter}2\n") == [Row(2, {"a": "1", "b": "2"})]


def test_a_comma_in_quotes_parts_nothing_and_one_outside_parts_always() -> None:
    assert csv_rows('"a,x";b\n1;2\n') == [Row(2, {"a,x": "1", "b": "2"})]
    assert csv_rows("a;b,c\n1;2,3\n") == [Row(2, {"a;b": "1;2", "c": "3"})]


def test_excel_says_it_on_a_line_of_its_own() -> None:
    assert csv_rows("sep=;\r\na;b\r\n1;2\r\n") == [Row(3, {"a": "1", "b": "2"})]


# --- JSON documents ---------------------------------------------------------------------------------------------------


def document(value: Any, path: str | None = None) -> list[Row | Unreadable]:
    return list(document_rows(io.BytesIO(json.dumps(value, indent=1).encode()), path))


def test_an_array_is_a_row_for_each_object() -> None:
    first, bad, last = document([{"a": 1}, 2, {"a": 3}])
    assert (first, last) == (Row(1, {"a": 1}), Row(3, {"a": 3}))
    assert isinstance(bad, Unreadable)


def test_a_path_leads_to_arrays_in_arrays_and_takes_what_stands_beside_them_along() -> None:
    days = [
        {"date": "d1", "cost": 9, "models": [{"name": "m1", "cost": 1}, {"name": "m2"}]},
        {"date": "d2", "models": []},
    ]
    assert document({"daily": days, "totals": 3}, "daily.models") == [
        Row(1, {"totals": 3, "date": "d1", "cost": 1, "name": "m1"}),
        Row(2, {"totals": 3, "date": "d1", "cost": 9, "name": "m2"}),
    ]


@pytest.mark.parametrize(
    ("value", "path", "problem"),
    [
        ({"data": []}, None, "is no array of objects; --rows PATH says where it has one"),
        ({"data": 3}, "data", "--rows data: is no array"),
        ({"data": []}, "rows", "there is no rows; there is data"),
    ],
)
def test_a_document_without_such_an_array_is_refused(value: Any, path: str | None, problem: str) -> None:
    with pytest.raises(CommandFailed, match=problem):
        document(value, path)


def test_a_document_that_is_none_is_refused() -> None:
    with pytest.raises(CommandFailed, match="not JSON"):
        list(document_rows(io.BytesIO(b'[{"a": 1}'), None))


# --- cells ------------------------------------------------------------------------------------------------------------


def test_a_name_is_a_column_or_a_path_of_keys() -> None:
    row = {"a.b": 1, "a": {"b": 2, "c.d": 3}, "json": '{"x": {"y": 4}}', "text": "{no json"}
    assert [cell(row, name) for name in ("z|a.b", "z|json.x.y|a.b", "z|")] == [1, 4, None]
    assert [cell(row, name) for name in ("a.b", "a.c.d", "json.x.y", "text.x", "a.z", "z")] == [
        1,
        3,
        4,
        None,
        None,
        None,
    ]


# --- long format ------------------------------------------------------------------------------------------------------


def long(rows: str, **changes: Any) -> list[Row | Unreadable]:
    said: dict[str, Any] = {
        "unit_from": "type",
        "count_from": "amount",
        "together": ["request"],
        "units": frozenset({"in", "out"}),
    }
    table = LongFormat(**said | changes)
    return list(table.rows(CsvTable(Lines(io.BytesIO(rows.encode()))).rows()))


def test_rows_of_one_act_become_one_wherever_they_stand() -> None:
    rows = long("request,type,amount\nr1,in,5\nr2,in,7\nr1,out,3\n")
    assert rows == [Row(2, {"request": "r1", "in": "5", "out": "3"}), Row(3, {"request": "r2", "in": "7", "out": None})]


def test_a_unit_that_fills_nothing_is_refused_and_can_be_ignored() -> None:
    text = "request,type,amount\nr1,in,5\nr1,searches,2\nr2,in,1\n"
    bad, good = long(text)
    assert isinstance(bad, Unreadable)
    assert "'searches' fills no field (those that do: in, out)" in bad.rejection.detail
    assert good == Row(4, {"request": "r2", "in": "1", "out": None})
    assert len(long(text, ignored=frozenset({"searches"}))) == 2


def test_a_unit_that_is_there_twice_is_never_guessed_at() -> None:
    (bad,) = long("request,type,amount\nr1,in,5\nr1,in,5\n")
    assert isinstance(bad, Unreadable)
    assert "'in' is there twice, on line 3 again" in bad.rejection.detail


# --- which rows are meant ---------------------------------------------------------------------------------------------


def test_where_takes_rows_that_say_one_of_the_texts() -> None:
    where = parse_where(["status=ok", "kind=a", "kind = b"])
    assert where == {"status": ("ok",), "kind": ("a", "b")}
    rows = [Row(number, {"status": status, "kind": kind}) for number, (status, kind) in enumerate(ROWS)]
    selection = Selection(where)
    assert [row.line for row in selection.rows(iter(rows))] == [0, 1]
    assert selection.left_out == 2


ROWS = [("ok", "a"), ("ok", "b"), ("bad", "a"), ("ok", "c")]


def test_where_needs_a_column() -> None:
    with pytest.raises(ValueError, match="--where status: write COLUMN=VALUE"):
        parse_where(["status"])
