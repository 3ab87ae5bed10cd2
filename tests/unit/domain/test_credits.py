"""The one rounding, and credits as people read them."""

from __future__ import annotations

import pytest

from services.domain.credits import (
    MC_PER_CREDIT,
    Ratio,
    format_credits,
    format_credits_roughly,
    format_ratio,
    round_half_even,
)


def test_a_credit_is_a_million_microcredits():
    assert MC_PER_CREDIT == 1_000_000


@pytest.mark.parametrize(
    ("numerator", "denominator", "rounded"),
    [
        (0, 7, 0),
        (10, 5, 2),
        (1, 3, 0),
        (2, 3, 1),
        # Ties, 0.5 to 3.5: to the even neighbour, so down and up in turn.
        (1, 2, 0),
        (3, 2, 2),
        (5, 2, 2),
        (7, 2, 4),
        (-1, 2, 0),
        (-3, 2, -2),
        (-5, 2, -2),
        # The next to a tie is none, however large the numbers.
        (5 * 10**30 + 1, 10**31, 1),
        (5 * 10**30, 10**31, 0),
        (5 * 10**30 - 1, 10**31, 0),
        (15 * 10**30, 10**31, 2),
    ],
)
def test_amounts_are_rounded_once_with_ties_to_the_even_one(numerator, denominator, rounded):
    assert round_half_even(numerator, denominator) == rounded


@pytest.mark.parametrize("denominator", [0, -1])
def test_a_denominator_that_is_not_positive_is_refused(denominator):
    with pytest.raises(ValueError, match="must be positive"):
        round_half_even(1, denominator)


@pytest.mark.parametrize(
    ("mc", "text"),
    [
        (0, "0"),
        (1, "0.000001"),
        (1_500_000, "1.5"),
        (2_000_000, "2"),
        (10_000_000, "10"),
        (-1_250_000, "-1.25"),
        (1_234_567_000_000, "1,234,567"),
        (1_234_567_890_123, "1,234,567.890123"),
        # More digits than a decimal context has by default.
        (10**40 + 1, f"{10**34:,}.000001"),
    ],
)
def test_credits_are_shown_exactly_without_trailing_zeros(mc, text):
    assert format_credits(mc) == text


@pytest.mark.parametrize(
    ("mc", "text"),
    [
        (0, "0.00"),
        (4_999, "0.00"),
        (5_000, "0.00"),
        (5_001, "0.01"),
        (15_000, "0.02"),
        (-1_250_000, "-1.25"),
        (1_234_567_890_123, "1,234,567.89"),
        (10**33 + 10_000, f"{10**27:,}.01"),
    ],
)
def test_credits_at_a_glance_have_two_decimals_however_large_they_are(mc, text):
    assert format_credits_roughly(mc) == text


@pytest.mark.parametrize(
    ("ratio", "decimals", "text"),
    [
        (Ratio(11, 10), 0, "1.1"),
        (Ratio(2, 1), 0, "2"),
        (Ratio(1, 8), 0, "0.125"),
        (Ratio(0, 1), 12, "0"),
        (Ratio(300_000, 1), 12, "0.0000003"),
        # Half of a pico-USD is no whole number of them, and is written all the same.
        (Ratio(1, 2), 12, "0.0000000000005"),
        (Ratio(5_500_000_000_001, 2), 12, "2.7500000000005"),
    ],
)
def test_a_ratio_is_written_as_the_decimal_it_is(ratio, decimals, text):
    assert format_ratio(ratio, decimals=decimals) == text
