"""Money: integers in microcredits (mc), 10^-6 of the customer's credit. No float ever touches an amount."""

from __future__ import annotations

from services.domain.values import Value

MC_PER_CREDIT = 1_000_000
AMOUNT_MC_MAX = 2**63 - 1
"""The largest amount that one entry of the ledger holds (``bigint``), in mc."""
_MC_PER_HUNDREDTH = MC_PER_CREDIT // 100


class Ratio(Value, frozen=True):
    """An exact factor: one half is ``Ratio(1, 2)``."""

    numerator: int
    denominator: int


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


def format_credits_roughly(mc: int) -> str:
    """``mc`` as credits with two decimals, rounded half-even: for a glance, beside the exact amount."""
    hundredths = round_half_even(mc, _MC_PER_HUNDREDTH)
    whole, rest = divmod(abs(hundredths), 100)
    return f"{_sign(hundredths)}{whole:,}.{rest:02}"


def format_credits(mc: int) -> str:
    """``mc`` as a decimal number of credits, exact, without trailing zeros: ``1_500_000`` is ``1.5``."""
    return format_exactly(mc, decimals=6, thousands=",")


def format_exactly(amount: int, *, decimals: int, thousands: str = "") -> str:
    """``amount`` in units of 10^-``decimals`` as a decimal number, without trailing zeros."""
    whole, rest = divmod(abs(amount), 10**decimals)
    return f"{_sign(amount)}{whole:{thousands}}.{rest:0{decimals}}".rstrip("0").rstrip(".")


def format_ratio(ratio: Ratio, *, decimals: int = 0) -> str:
    """A ratio in units of 10^-``decimals`` as a decimal number, exact; it must have one, as every ratio of a card."""
    more = 0
    while ratio.numerator * 10**more % ratio.denominator:
        more += 1
    return format_exactly(ratio.numerator * 10**more // ratio.denominator, decimals=decimals + more)


def _sign(amount: int) -> str:
    return "-" if amount < 0 else ""
