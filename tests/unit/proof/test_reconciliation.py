"""Offsets, counts and totals: a gap, an overlap, a row that is missing or too many, and a total that is off."""

from __future__ import annotations

import pytest

from services.proof.reconciliation import (
    CoveredRange,
    Partition,
    RowsAt,
    check_books,
    check_totals,
    total_key,
)

ONE = Partition(1, "cluster", "usage", 3, 10, 30)
RANGES = [CoveredRange(1, 10, 20, 5, 3, 1, 1), CoveredRange(1, 20, 25, 0, 0, 0, 0), CoveredRange(1, 25, 30, 4, 4, 0, 0)]
CHARGES = [RowsAt(1, 10, 2), RowsAt(1, 19, 1), RowsAt(1, 29, 4)]
LETTERS = [RowsAt(1, 12, 1)]


def details(partitions=(ONE,), ranges=RANGES, charges=CHARGES, letters=LETTERS):
    return [each.detail for each in check_books(partitions, ranges, charges, letters)]


def test_books_that_are_right():
    assert details() == []


def test_two_partitions_are_kept_apart():
    other = Partition(2, "cluster", "usage", 4, 0, 1)
    ranges = [*RANGES, CoveredRange(2, 0, 1, 1, 1, 0, 0)]
    assert details((ONE, other), ranges, [*CHARGES, RowsAt(2, 0, 1)]) == []


def test_a_partition_of_which_nothing_is_booked_yet_is_right():
    assert details((ONE, Partition(2, "cluster", "usage", 4, 7, 7))) == []


def test_a_gap_is_named_with_its_offsets_and_what_lies_in_it():
    assert details(ranges=[RANGES[0], RANGES[2]]) == ["gap: no range covers the offsets [20, 25)"]
    assert details(ranges=RANGES[1:]) == [
        "gap: no range covers the offsets [10, 20)",
        "3 charges from offset 10 on lie in no covered range",
        "1 dead letters from offset 12 on lie in no covered range",
    ]
    assert details(ranges=RANGES[:2])[0] == "gap: no range covers the offsets [25, 30)"


def test_a_partition_without_any_range_is_all_gap():
    assert details(ranges=[], charges=[], letters=[]) == ["gap: no range covers the offsets [10, 30)"]


def test_an_overlap_is_named_with_its_offsets():
    wider = RANGES[1]._replace(from_offset=18)
    assert details(ranges=[RANGES[0], wider, RANGES[2]]) == ["overlap: the offsets [18, 20) are covered twice"]


def test_ranges_beyond_what_is_booked_are_found():
    assert details((ONE._replace(next_offset=29),)) == ["ranges reach to offset 30, but it is booked only up to 29"]


@pytest.mark.parametrize(
    ("charges", "detail"),
    [
        (CHARGES[1:], "3 events were recorded, 1 charges are there"),
        ([CHARGES[0], RowsAt(1, 19, 2), CHARGES[2]], "3 events were recorded, 4 charges are there"),
        ([*CHARGES[:2], RowsAt(1, 21, 1), CHARGES[2]], "0 events were recorded, 1 charges are there"),
    ],
)
def test_a_charge_that_is_missing_or_too_many_is_found(charges, detail):
    assert details(charges=charges) == [detail]


def test_a_dead_letter_that_is_missing_is_found():
    assert details(letters=[]) == ["1 dead letters were written, 0 are there"]


def test_charges_of_no_known_partition_are_found():
    assert details(charges=[*CHARGES, RowsAt(9, 4, 2)]) == ["2 charges from offset 4 on lie in no covered range"]


def test_ranges_of_no_known_partition_are_found():
    assert "it has ranges, but is not known" in details(ranges=[*RANGES, CoveredRange(9, 0, 1, 0, 0, 0, 0)])


def test_a_range_whose_own_sum_is_wrong_is_found():
    ranges = [RANGES[0]._replace(events=6), *RANGES[1:]]
    assert details(ranges=ranges) == ["6 events are not 3 recorded + 1 duplicates + 1 dead letters"]


def test_totals_are_the_sums_of_rows():
    recorded = total_key("usage_events", {"outcome": "recorded", "event_type": "a"})
    refused = total_key("dead_letters", {"reason": "malformed_json"})
    assert list(check_totals({recorded: 2, refused: 1}, {recorded: 2, refused: 1})) == []
    assert list(check_totals({recorded: 0}, {})) == []
    (off, missing) = check_totals({recorded: 2}, {recorded: 3, refused: 1})
    assert (off.place, off.detail) == ("dead_letters {reason=malformed_json}", "the total is 0, the rows come to 1")
    assert missing.place == "usage_events {event_type=a, outcome=recorded}"


def test_duplicates_are_compared_whatever_their_type():
    keys = {total_key("usage_events", {"outcome": "duplicate", "event_type": name}) for name in "ab"}
    assert keys == {("usage_events", (("outcome", "duplicate"),))}
