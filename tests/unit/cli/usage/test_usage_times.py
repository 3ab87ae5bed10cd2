"""Times as traces write them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from services.cli.usage.formats import TimeFormat
from services.cli.usage.times import Shift, time_reader, time_zone


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-11-16 18:17:03.9799600", datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)),
        ("2023-11-16T18:17:03", datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)),
        ("2023-11-16 18:17:03Z", datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)),
        ("2023-11-16 18:17:03 UTC", datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)),
        ("2023-11-16 18:17:03 +0200", datetime(2023, 11, 16, 16, 17, 3, tzinfo=UTC)),
        (" 2023-11-16T18:17:03.25-05:30 ", datetime(2023, 11, 16, 23, 47, 3, 250000, tzinfo=UTC)),
        ("2026-11-20 02:00", datetime(2026, 11, 20, 2, tzinfo=UTC)),
        ("2026-11-20T02:00+01:00", datetime(2026, 11, 20, 1, tzinfo=UTC)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("20261120", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20 10:00:00.25+00", datetime(2026, 11, 20, 10, 0, 0, 250000, tzinfo=UTC)),
        ("2026-11-20 10:00:00.25-07", datetime(2026, 11, 20, 17, 0, 0, 250000, tzinfo=UTC)),
    ],
)
def test_iso_times(text: str, expected: datetime) -> None:
    assert time_reader(TimeFormat.ISO, ZoneInfo("UTC"))(text) == expected


def test_an_offset_is_never_guessed() -> None:
    assert time_reader(TimeFormat.ISO, None)("2023-11-16 18:17:03.9799600") is None


@pytest.mark.parametrize("value", ["", "yesterday", "2023-13-01 00:00:00", "1999-01-01 00:00:00", 12, None, True])
def test_what_is_no_iso_time(value: object) -> None:
    assert time_reader(TimeFormat.ISO, ZoneInfo("UTC"))(value) is None


def test_unix_times_are_exact_to_the_microsecond() -> None:
    expected = datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)
    assert time_reader(TimeFormat.UNIX, None)("1700158623.97996") == expected
    assert time_reader(TimeFormat.UNIX, None)(1700158623.97996) == expected
    assert time_reader(TimeFormat.UNIX_MS, None)("1700158623979.96") == expected


def test_a_time_without_an_offset_is_one_of_the_zones_clock() -> None:
    read = time_reader(TimeFormat.ISO, ZoneInfo("Europe/Berlin"))
    assert read("2026-07-01 02:00") == datetime(2026, 7, 1, tzinfo=UTC)
    assert read("2026-11-20") == datetime(2026, 11, 19, 23, tzinfo=UTC)
    assert read("2026-11-20 02:00Z") == datetime(2026, 11, 20, 2, tzinfo=UTC)


@pytest.mark.parametrize(("text", "problem"), [("2026-10-25 02:30", "there twice"), ("2026-03-29 02:30", "not there")])
def test_where_clocks_are_changed_nothing_is_guessed(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        time_reader(TimeFormat.ISO, ZoneInfo("Europe/Berlin"))(text)


def test_a_zone_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="--time-zone Berlin: there is no such time zone"):
        time_zone("Berlin")


def test_a_pattern_reads_what_no_standard_does() -> None:
    expected = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
    assert time_reader("%d.%m.%Y %H:%M", ZoneInfo("UTC"))(" 20.11.2026 10:30 ") == expected
    assert time_reader("%m/%d/%y %I:%M %p %z", None)("11/20/26 11:30 AM +0100") == expected
    with pytest.raises(ValueError, match=r"is not written as %d\.%m\.%Y"):
        time_reader("%d.%m.%Y", ZoneInfo("UTC"))("2026-11-20")
    with pytest.raises(ValueError, match="has no offset; --time-zone"):
        time_reader("%d.%m.%Y", None)("20.11.2026")
    with pytest.raises(ValueError, match="--time-format noon: write iso, unix"):
        time_reader("noon", None)


@pytest.mark.parametrize("text", ["1.79517E+12", "1.8e9", " 1E+09 "])
def test_a_time_that_a_spreadsheet_has_rounded_is_refused(text: str) -> None:
    for time_format in (TimeFormat.UNIX, TimeFormat.UNIX_MS):
        with pytest.raises(ValueError, match="has lost digits in a spreadsheet"):
            time_reader(time_format, None)(text)


def test_times_that_count_from_0_begin_at_the_start() -> None:
    read, shift = time_reader(TimeFormat.UNIX, None), Shift(datetime(2026, 11, 1, tzinfo=UTC))
    assert shift(read("0.5")) == datetime(2026, 11, 1, 0, 0, 0, 500000, tzinfo=UTC)
    assert shift(read(90)) == datetime(2026, 11, 1, 0, 1, 30, tzinfo=UTC)
    with pytest.raises(ValueError, match="--start says what 0 is"):
        Shift(None)(read("0.5"))


@pytest.mark.parametrize("value", ["", "soon", "nan", "inf", "1e30", "-1", None])
def test_what_is_no_unix_time(value: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        time_reader(TimeFormat.UNIX, None)(value)


def test_a_shift_keeps_the_spacing() -> None:
    shift = Shift(datetime(2026, 11, 1, tzinfo=UTC))
    assert shift(datetime(2023, 11, 16, 18, 0, 0, tzinfo=UTC)) == datetime(2026, 11, 1, tzinfo=UTC)
    assert shift(datetime(2023, 11, 16, 18, 0, 1, 5, tzinfo=UTC)) == datetime(2026, 11, 1, 0, 0, 1, 5, tzinfo=UTC)
    assert shift(datetime(2023, 11, 16, 17, 0, 0, tzinfo=UTC)) == datetime(2026, 10, 31, 23, tzinfo=UTC)


def test_no_shift_moves_nothing() -> None:
    at = datetime(2023, 11, 16, tzinfo=UTC)
    assert Shift(None)(at) == at
