"""Times as traces write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.cli.usage.formats import TimeFormat
from services.cli.usage.times import Shift, time_reader


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-11-16 18:17:03.9799600", datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)),
        ("2023-11-16T18:17:03", datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)),
        ("2023-11-16 18:17:03Z", datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)),
        ("2023-11-16 18:17:03 UTC", datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)),
        ("2023-11-16 18:17:03 +0200", datetime(2023, 11, 16, 16, 17, 3, tzinfo=UTC)),
        (" 2023-11-16T18:17:03.25-05:30 ", datetime(2023, 11, 16, 23, 47, 3, 250000, tzinfo=UTC)),
    ],
)
def test_iso_times(text: str, expected: datetime) -> None:
    assert time_reader(TimeFormat.ISO, assume_utc=True)(text) == expected


def test_an_offset_is_never_guessed() -> None:
    assert time_reader(TimeFormat.ISO, assume_utc=False)("2023-11-16 18:17:03.9799600") is None


@pytest.mark.parametrize("value", ["", "yesterday", "2023-13-01 00:00:00", "1999-01-01 00:00:00", 12, None, True])
def test_what_is_no_iso_time(value: object) -> None:
    assert time_reader(TimeFormat.ISO, assume_utc=True)(value) is None


def test_unix_times_are_exact_to_the_microsecond() -> None:
    expected = datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)
    assert time_reader(TimeFormat.UNIX, assume_utc=False)("1700158623.97996") == expected
    assert time_reader(TimeFormat.UNIX, assume_utc=False)(1700158623.97996) == expected
    assert time_reader(TimeFormat.UNIX_MS, assume_utc=False)("1700158623979.96") == expected


@pytest.mark.parametrize("value", ["", "soon", "nan", "inf", "1e30", "-1", None])
def test_what_is_no_unix_time(value: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        time_reader(TimeFormat.UNIX, assume_utc=False)(value)


def test_a_shift_keeps_the_spacing() -> None:
    shift = Shift(datetime(2026, 11, 1, tzinfo=UTC))
    assert shift(datetime(2023, 11, 16, 18, 0, 0, tzinfo=UTC)) == datetime(2026, 11, 1, tzinfo=UTC)
    assert shift(datetime(2023, 11, 16, 18, 0, 1, 5, tzinfo=UTC)) == datetime(2026, 11, 1, 0, 0, 1, 5, tzinfo=UTC)
    assert shift(datetime(2023, 11, 16, 17, 0, 0, tzinfo=UTC)) == datetime(2026, 10, 31, 23, tzinfo=UTC)


def test_no_shift_moves_nothing() -> None:
    at = datetime(2023, 11, 16, tzinfo=UTC)
    assert Shift(None)(at) == at
