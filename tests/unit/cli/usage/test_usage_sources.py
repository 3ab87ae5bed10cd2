"""Rows of JSON lines and CSV: what is read, with which line number, and what is refused alone."""

from __future__ import annotations

import io

import pytest

from services.cli.usage.sources import LINE_BYTES_MAX, CsvTable, Lines, Row, Unreadable, jsonl_rows
from services.runtime.command_failed import CommandFailed


def json_rows(data: bytes) -> list[Row | Unreadable]:
    return list(jsonl_rows(Lines(io.BytesIO(data))))


def csv_rows(data: bytes, delimiter: str = ",") -> list[Row | Unreadable]:
    return list(CsvTable(Lines(io.BytesIO(data)), delimiter).rows())


def test_json_lines_keep_their_numbers_over_empty_lines_and_crlf() -> None:
    assert json_rows(b'{"a":1}\r\n\r\n  \n{"a":2}') == [Row(1, {"a": 1}), Row(4, {"a": 2})]


def test_a_byte_order_mark_is_passed_over() -> None:
    assert json_rows(b'\xef\xbb\xbf{"a":1}\n') == [Row(1, {"a": 1})]
    assert csv_rows(b"\xef\xbb\xbfa,b\n1,2\n") == [Row(2, {"a": "1", "b": "2"})]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "not JSON at line 1"),
        (b"nonsense", "not JSON at line 1"),
        (b'{"a": NaN}', "not JSON at line 1"),
        (b'{"a":"\xff"}', "is not UTF-8"),
        (b'[{"a":1}]', "an event must be a JSON object"),
        (b"3", "an event must be a JSON object"),
        (b'{"a":"' + b"x" * LINE_BYTES_MAX + b'"}', "is longer than"),
    ],
)
def test_an_unreadable_json_line_harms_no_neighbour(line: bytes, problem: str) -> None:
    before, bad, after = json_rows(b'{"a":1}\n' + line + b'\n{"a":3}\n')
    assert (before, after) == (Row(1, {"a": 1}), Row(3, {"a": 3}))
    assert isinstance(bad, Unreadable)
    assert bad.line == 2
    assert problem in bad.rejection.detail


def test_csv_quotes_may_hold_delimiters_quotes_and_line_ends() -> None:
    rows = csv_rows(b'a,b\r\n"x,y","say ""hi"""\r\n\r\n"two\r\nlines",z\r\nlast,row')
    assert rows == [
        Row(2, {"a": "x,y", "b": 'say "hi"'}),
        Row(4, {"a": "two\r\nlines", "b": "z"}),
        Row(6, {"a": "last", "b": "row"}),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"1", "has 1 fields, the header 2"),
        (b"1,2,3", "has 3 fields, the header 2"),
        (b"1,\xe9", "is not UTF-8"),
        (b'1,"2"x', "is not CSV"),
        (b"1," + b"x" * 200_000, "is not CSV"),
        (b"1," + b"x" * LINE_BYTES_MAX, "is longer than"),
        (b'1,"' + b"x," * LINE_BYTES_MAX, "is longer than"),
    ],
)
def test_an_unreadable_csv_row_harms_no_neighbour(line: bytes, problem: str) -> None:
    before, bad, after = csv_rows(b"a,b\n0,0\n" + line + b"\n9,9\n")
    assert (before, after) == (Row(2, {"a": "0", "b": "0"}), Row(4, {"a": "9", "b": "9"}))
    assert isinstance(bad, Unreadable)
    assert bad.line == 3
    assert problem in bad.rejection.detail


def test_a_quote_that_never_closes_is_one_refused_row() -> None:
    first, bad = csv_rows(b'a,b\n0,0\n1,"2\n3,4\n')
    assert first == Row(2, {"a": "0", "b": "0"})
    assert isinstance(bad, Unreadable)
    assert bad.line == 3


@pytest.mark.parametrize(("data", "problem"), [(b"", "no header"), (b"\n\n", "no header"), (b"a,a\n1,2\n", "twice")])
def test_a_table_needs_a_header(data: bytes, problem: str) -> None:
    with pytest.raises(CommandFailed, match=problem):
        csv_rows(data)


def test_a_tab_may_part_the_fields() -> None:
    assert csv_rows(b"a\tb\n1,5\t2\n", "\t") == [Row(2, {"a": "1,5", "b": "2"})]


def test_every_byte_is_counted_for_the_progress() -> None:
    data = b"x" * (2 * LINE_BYTES_MAX) + b"\n{}\n"
    lines = Lines(io.BytesIO(data))
    assert len(list(lines)) == lines.number == 2
    assert lines.bytes_read == len(data)
