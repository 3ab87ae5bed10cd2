"""The alert rules at another pace: what they wait for and look back on is shorter, and nothing else is changed.

An hour's window cannot be waited for in a test. Windows, offsets, steps and `for` are divided by one number, and so is
what the age of something that waits is held against, for ages grow with the clock as well. Counts, ratios and latencies
stay: faults bring them about for real.
"""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(?<![\w.])(\d+)(ms|[smhd])\b")
_AGE = re.compile(r"(_oldest_seconds(?:\{[^}]*\})?\)*\s*>\s*)(\d+)\b")
_STRING = re.compile(r'("[^"]*")')


def faster(document: dict[str, Any], times: int, *, only: frozenset[str] | None = None) -> dict[str, Any]:
    """A file of rules that lives ``times`` as fast; of its alerts ``only`` these, where that is given.

    Raises ValueError where a duration would not come out as whole milliseconds.
    """
    result = deepcopy(document)
    for group in result["groups"]:
        group["rules"] = [_rule(rule, times) for rule in group["rules"] if only is None or _kept(rule, only)]
    return result


def faster_expression(expression: str, times: int) -> str:
    """An expression of PromQL whose windows, offsets, steps and ages are shorter; what stands in strings stays."""
    parts = _STRING.split(expression)
    # Every other part is a string.
    parts[::2] = [_DURATION.sub(lambda found: _shorter(found[0], times), part) for part in parts[::2]]
    return _AGE.sub(lambda found: f"{found[1]}{int(found[2]) / times:g}", "".join(parts))


def _rule(rule: dict[str, Any], times: int) -> dict[str, Any]:
    rule["expr"] = faster_expression(rule["expr"], times)
    if "for" in rule:
        rule["for"] = _shorter(rule["for"], times)
    return rule


def _kept(rule: dict[str, Any], only: frozenset[str]) -> bool:
    return "record" in rule or rule["alert"] in only


def _shorter(duration: str, times: int) -> str:
    found = _DURATION.fullmatch(duration)
    if found is None:
        raise ValueError(f"{duration} is no duration")
    whole, rest = divmod(int(found[1]) * _MILLISECONDS[found[2]], times)
    if rest:
        raise ValueError(f"a {times}th of {duration} is no number of milliseconds")
    return f"{whole}ms"
