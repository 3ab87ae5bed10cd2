"""Money: integers in microcredits (mc), 10^-6 of the customer's credit. No float ever touches an amount."""

from __future__ import annotations

from decimal import Decimal

MC_PER_CREDIT = 1_000_000


def round_half_even(numerator: int, denominator: int) -> int:
    """The one rounding of an amount: ``numerator / denominator`` to the nearest integer, ties to the even one.

    Both are integers, ``denominator`` positive, so the quotient is exact until this very step.
    """
    if denominator <= 0:
        raise ValueError("the denominator must be positive")
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient % 2 == 1):
        return quotient + 1
    return quotient


def format_credits(mc: int) -> str:
    """``mc`` as a decimal number of credits, exact, without trailing zeros: ``1_500_000`` is ``1.5``."""
    value = Decimal(mc).scaleb(-6)
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
