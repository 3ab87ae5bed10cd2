"""From an answer of a provider to what it used, by the table of ``apis``. What does not add up is an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from byok_sdk.errors import UsageError, UsageMissingError
from byok_sdk.events import is_count
from byok_sdk.usage.answers import Path, elements, look, names_of, plain, shown
from byok_sdk.usage.apis import PARTS, Api, Served, Sum, Unit, apis_of
from byok_sdk.usage.measured import Usage

_TICKS_PER_USD = 10**10


def usage_of(answer: Any, provider: str) -> Usage:
    """What a whole answer of ``provider`` used. Raises UsageError that names the fields."""
    return read_usage(answer, api_of(answer, provider))


def api_of(answer: Any, provider: str) -> Api:
    """Of which API the answer is. Raises UsageError where it is of none that is known."""
    known = apis_of(provider)
    if not known:
        raise UsageError(f"answers of {provider!r} are not known; give the counts with act.usage")
    for api in known:
        if look(answer, api.root + api.known_by) is not None:
            return api
    roots = sorted({shown(api.root) for api in known})
    found = {root: names_of(look(answer, (root,))) for root in roots}
    if not any(found.values()):
        raise UsageMissingError(f"an answer of {provider!r} has no {' or '.join(roots)}")
    needed = " or ".join(shown(api.root + api.known_by) for api in known)
    raise UsageError(f"an answer of {provider!r} must have {needed}; it has {found}")


def read_usage(answer: Any, api: Api) -> Usage:
    """What an answer of this API used. Raises UsageError that names the fields: no count is ever guessed."""
    used = look(answer, api.root)
    for path in api.needed:
        if _count(used, path, api) is None:
            raise UsageError(f"{api.name}: {shown(api.root + path)} is missing")
    if api.one_round is not None:
        _check_rounds(used, api)
    apart = _output_apart(used, api)
    units = {name: _units(used, unit, api) for name, unit in api.units.items()}
    units["output"] += apart
    if api.searches is not None:
        units["web_search"] = units.get("web_search", 0) + _searches(look(answer, api.searches))
    _check_parts(units, api)
    model, response_id = look(answer, api.model), look(answer, api.response_id)
    if not isinstance(model, str) or not model:
        raise UsageError(f"{api.name}: {shown(api.model)} is missing")
    return Usage(
        model=model,
        units={name: count for name, count in units.items() if count or name in PARTS},
        conditions=dict(filter(None, (_served(answer, each) for each in api.served))),
        response_id=response_id if isinstance(response_id, str) and response_id else None,
        cost_usd=None if api.cost_ticks is None else _usd(_count(used, api.cost_ticks, api)),
    )


def with_more(usage: Usage, units: Mapping[str, int], conditions: Mapping[str, str]) -> Usage:
    """The same with what the answer does not tell, such as searches that are billed apart, or that it was a batch."""
    return replace(usage, units={**usage.units, **units}, conditions={**usage.conditions, **conditions})


def _count(used: Any, path: Path, api: Api) -> int | None:
    value = look(used, path)
    if value is None:
        return None
    if not is_count(value) or value < 0:
        raise UsageError(f"{api.name}: {shown(api.root + path)} must be a count, and is a {type(value).__name__}")
    return int(value)


def _units(used: Any, unit: Unit, api: Api) -> int:
    count = sum(_count(used, path, api) or 0 for path in unit.plus)
    less = sum(_count(used, path, api) or 0 for path in unit.minus)
    if less > count:
        names = ", ".join(shown(api.root + path) for path in (*unit.plus, *unit.minus))
        raise UsageError(f"{api.name}: of {names} the part is more than the whole")
    return count - less


def _output_apart(used: Any, api: Api) -> int:
    """What is output besides what the field says, where the sums tell so. Raises UsageError where none holds."""
    apart = sum(_count(used, path, api) or 0 for path in api.output_apart)
    for each in api.sums:
        difference = _difference(used, each, api)
        if not difference:
            continue
        if apart and difference == apart:
            return apart
        raise UsageError(_does_not_add_up(used, each, api))
    if apart and not any(_difference(used, each, api) == 0 for each in api.sums):
        names = ", ".join(shown(api.root + each.total) for each in api.sums)
        raise UsageError(f"{api.name}: without {names} nobody can say whether output includes reasoning")
    return 0


def _difference(used: Any, rule: Sum, api: Api) -> int | None:
    """How much the total is more than its parts; None where one side is not told."""
    total = _count(used, rule.total, api)
    parts = [_count(used, path, api) for path in rule.parts]
    if total is None or all(part is None for part in parts):
        return None
    return total - sum(part or 0 for part in parts)


def _does_not_add_up(used: Any, rule: Sum, api: Api) -> str:
    paths = (rule.total, *rule.parts, *api.output_apart)
    told = ", ".join(f"{shown(api.root + path)} {_count(used, path, api)}" for path in paths)
    return f"{api.name}: these do not add up: {told}"


def _check_parts(units: Mapping[str, int], api: Api) -> None:
    for whole, parts in PARTS.items():
        for part in parts:
            if units.get(part, 0) > units[whole]:
                fields = ", ".join(shown(api.root + path) for name in (part, whole) for path in api.units[name].plus)
                raise UsageError(f"{api.name}: {part} exceeds {whole} ({fields})")


def _check_rounds(used: Any, api: Api) -> None:
    rounds = list(elements(look(used, api.one_round or ())))
    kinds = sorted({str(plain(look(each, ("type",)))) for each in rounds})
    if len(rounds) > 1 or kinds not in ([], ["message"]):
        field = shown((*api.root, *(api.one_round or ())))
        raise UsageError(f"{api.name}: {field} has {len(rounds)} rounds ({', '.join(kinds)}), each billed by itself")


def _searches(output: Any) -> int:
    calls = (each for each in elements(output) if plain(look(each, ("type",))) == "web_search_call")
    return sum(plain(look(each, ("action", "type"))) in (None, "search") for each in calls)


def _served(answer: Any, served: Served) -> tuple[str, str] | None:
    value = plain(look(answer, served.path))
    if not isinstance(value, str) or not value:
        return None
    return served.means[value] if value in served.means else (served.name, value.lower())


def _usd(ticks: int | None) -> str | None:
    if ticks is None:
        return None
    whole, rest = divmod(ticks, _TICKS_PER_USD)
    return f"{whole}.{rest:010}"
