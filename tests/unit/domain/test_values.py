"""What is made quickly is what Python's own way makes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from services.domain.values import Value, instant_text, uuid_of

ZONES = st.sampled_from(
    [None, UTC, timezone(timedelta(hours=-3, minutes=-30)), ZoneInfo("Europe/London"), ZoneInfo("Etc/UTC")]
)


class Point(Value, frozen=True):
    x: int
    y: int = 0


@given(st.datetimes(timezones=ZONES))
def test_the_text_of_an_instant_is_its_iso_format(at):
    assert instant_text(at) == at.isoformat()
    assert instant_text(at.replace(microsecond=0)) == at.replace(microsecond=0).isoformat()


def test_an_instant_has_no_fraction_or_six_digits_of_it():
    assert instant_text(datetime(2026, 4, 27, 9, 30, tzinfo=UTC)) == "2026-04-27T09:30:00+00:00"
    assert instant_text(datetime(2026, 4, 27, 9, 30, 0, 500_000, tzinfo=UTC)) == "2026-04-27T09:30:00.500000+00:00"


@given(st.integers(0, 2**128 - 1))
def test_the_uuid_of_a_number_is_that_of_python(number):
    assert uuid_of(number) == UUID(int=number)
    assert (uuid_of(number).hex, hash(uuid_of(number))) == (UUID(int=number).hex, hash(UUID(int=number)))


def test_a_value_is_taken_apart_changed_and_named_like_a_tuple_with_names():
    point = Point(1, 2)
    assert (tuple(point), point._replace(y=3), point._asdict()) == ((1, 2), Point(1, 3), {"x": 1, "y": 2})
