"""Why a price is what it is, in words and with units: which keys came into question, and how the amounts follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, assert_never

from services.domain.credits import format_credits, format_exactly, format_ratio
from services.domain.directory import Credential, Directory
from services.domain.model_prices import CACHE_READ, INPUT, OUTPUT, Billed, ModelPrice, Uplift
from services.domain.permissions import Told
from services.domain.rate_card import RateCard
from services.domain.rating import Rating, bill_of, price_of, tokens_bill
from services.domain.resolution import LEASE_LIFE, KeySource, Resolution, Use, can_be_claimed
from services.domain.scope import Interval, Plan, Scope, ScopeType
from services.domain.usage import Claim, EventType, UsageEvent
from services.ledger.key_sight import KeySight
from services.ledger.registry import Known

_TAKEN = "active at that time, and the first that applies"
_NONE_APPLIED = "none applied; whether there is such a key this token may not know"


def utc(at: datetime) -> str:
    """RFC 3339 with Z."""
    return at.isoformat().replace("+00:00", "Z")


def usd(micros: int) -> str:
    """Micro-USD as a decimal number of USD, exact."""
    return format_exactly(micros, decimals=6)


def _interval(interval: Interval) -> dict[str, str | None]:
    return {"from": utc(interval.start), "to": None if interval.end is None else utc(interval.end)}


def plan_evidence(directory: Directory, org_id: str, at: datetime) -> dict[str, Any]:
    """The plan at ``at`` and the period in which it holds; ``known`` is false where no period covers it."""
    for period in reversed(directory.plans_of(org_id)):
        if period.interval.covers(at):
            return {"plan": period.plan.value, "known": True, **_interval(period.interval)}
    return {"plan": Plan.FREE.value, "known": False, "from": None, "to": None}


def candidates(
    use: Use, claim: Claim | None, resolution: Resolution, known: Known, card: RateCard, keys: KeySight
) -> list[dict[str, Any]]:
    """What could have applied, in the order in which it was looked at, and why each was or was not taken.

    Of keys that the caller may not know of there is one line for all of a level, whether or not there are any.
    """
    chosen = None if resolution.credential is None else resolution.credential.credential_id
    looked_at = [_claimed(use, claim, known, card, keys)] if claim is not None else []
    taken = bool(looked_at and looked_at[0]["taken"])
    for level in (ScopeType.ORGANIZATION, *card.scope_order):
        scope = use.scope(level)
        barred = _barred(use, level, scope, known.directory, card)
        here = [c for c in known.credentials if c.scope == scope] if scope is not None else []
        found = next((c for c in here if c.credential_id == chosen), None) if barred is None and not taken else None
        if scope is not None and keys.told(scope, applied=False) is Told.NOTHING:
            looked_at.append(_untold(level, scope, found, barred, keys))
        elif not here:
            looked_at.append(_candidate(level.value, taken=False, why=barred or "no such key was ever added"))
        else:
            told, hints = keys.told(here[0].scope, applied=False), known.hints
            looked_at += [
                _candidate(
                    level.value,
                    taken=credential is found,
                    why=barred or _why(credential, use.at, is_taken=credential is found),
                    credential=credential,
                    told=told,
                    hint=hints.get(credential.credential_id),
                )
                for credential in here
            ]
    if claim is None or not claim.is_platform:
        looked_at.append(_platform(resolution))
    return looked_at


def _candidate(
    rule: str,
    *,
    taken: bool,
    why: str,
    credential: Credential | None = None,
    told: Told = Told.NOTHING,
    hint: str | None = None,
) -> dict[str, Any]:
    return {
        "rule": rule,
        "credential_id": None if credential is None or told < Told.ID else credential.credential_id,
        "hint": (hint or None) if told >= Told.HINT else None,
        "active": [] if credential is None or told < Told.TIMES else [_interval(one) for one in credential.active],
        "taken": taken,
        "why": why,
    }


def _untold(
    level: ScopeType, scope: Scope, found: Credential | None, barred: str | None, keys: KeySight
) -> dict[str, Any]:
    if found is None:
        return _candidate(level.value, taken=False, why=barred or _NONE_APPLIED)
    told = keys.told(scope, applied=True)
    return _candidate(level.value, taken=True, why=_TAKEN, credential=found, told=told)


def _barred(use: Use, level: ScopeType, scope: Scope | None, directory: Directory, card: RateCard) -> str | None:
    if use.provider not in card.own_key_providers:
        return f"rate card {card.card} takes no own keys for this provider"
    plan = directory.plan_at(use.org_id, use.at)
    if not plan.allows(level):
        return f"the plan {plan.value} has no {level.value} keys"
    return "the use belongs to no team" if scope is None else None


def _why(credential: Credential, at: datetime, *, is_taken: bool) -> str:
    if not credential.active_at(at):
        return "was not active at that time"
    return _TAKEN if is_taken else "active, but something before it applied"


def _claimed(use: Use, claim: Claim, known: Known, card: RateCard, keys: KeySight) -> dict[str, Any]:
    if claim.credential_id is None:
        return _candidate("claim", taken=True, why="the event says that the platform's key was used")
    credential = known.directory.credential(claim.credential_id)
    # A key of another organization is not told apart from one that does not exist.
    if credential is not None and credential.org_id != use.org_id:
        credential = None
    taken = credential is not None and can_be_claimed(credential, use, known.directory, card)
    told = keys.told_of_claimed(known.claimed, applied=taken)
    if taken:
        why = f"the event says so, and it was active then or until at most {LEASE_LIFE.seconds} s before"
    elif told is Told.NOTHING:
        why = "the claim was not accepted: this token may know of no such key"
    elif credential is None:
        why = "the claimed key is none of this organization's"
    else:
        why = "the claim cannot be true: the key's time, provider or scope, or the plan, says otherwise"
    hint = None if credential is None else known.hints.get(credential.credential_id)
    line = _candidate("claim", taken=taken, why=why, credential=credential, told=told, hint=hint)
    return line | {"credential_id": claim.credential_id if told >= Told.ID else None}


def _platform(resolution: Resolution) -> dict[str, Any]:
    taken = resolution.key_source is not KeySource.BYOK
    why = "nothing before it applied" if taken else "a key of the customer applied"
    return _candidate("platform", taken=taken, why=why)


def card_line(event: UsageEvent, rating: Rating) -> dict[str, Any]:
    """The lines of the rate card that the price follows from, as decimals with their units."""
    card = rating.card
    line: dict[str, Any] = {"card": card.card, "effective_from": utc(card.effective_from)}
    match event.type:
        case EventType.NODE_CALL:
            return line | _listed_as(rating) | _node_call_prices(price_of(event, rating), card)
        case EventType.TOKEN_USAGE:
            return line | _listed_as(rating) | _token_prices(price_of(event, rating), card)
        case EventType.TOKEN_USAGE_V2:
            return line | _listed_as(rating) | _unit_prices(event, rating)
        case EventType.TOOL_CALL:
            return line | {"tool_call_credits": format_credits(card.tool_price(event.tool or ""))}
        case EventType.WORKFLOW_RUN:
            per_run = format_credits(card.workflow_run_mc)
            return line | {"workflow_run_credits": per_run, "charge_subflows": card.charge_subflows}
        case _:
            assert_never(event.type)


def _listed_as(rating: Rating) -> dict[str, str]:
    return {} if rating.priced_model is None else {"model": rating.priced_model}


def _node_call_prices(price: ModelPrice, card: RateCard) -> dict[str, Any]:
    return {
        "tier": price.tier,
        "tier_credits": format_credits(price.tier_mc),
        "own_key_node_call_credits": format_credits(card.own_key_node_call_mc),
    }


def _token_prices(price: ModelPrice, card: RateCard) -> dict[str, Any]:
    factor = card.own_key_token_factor
    return {
        "tier": price.tier,
        **{f"{name}_usd_per_mtok": _usd_or_none(price.prices.get(unit)) for unit, name in _TOKENS},
        "usd_per_credit": usd(card.usd_micros_per_credit),
        "own_key_token_factor": f"{factor.numerator}/{factor.denominator}",
    }


_TOKENS = ((INPUT, "input"), (CACHE_READ, "cached_input"), (OUTPUT, "output"))


def _usd_or_none(micros: int | None) -> str | None:
    return None if micros is None else usd(micros)


def _unit_prices(event: UsageEvent, rating: Rating) -> dict[str, Any]:
    """Each line of the request's bill, and what of the card was laid over its plain prices."""
    card, price = rating.card, price_of(event, rating)
    bill, factor = bill_of(event, card, price), card.own_key_token_factor
    return {
        "tier": price.tier,
        "lines": [_billed(line, card) for line in bill.lines],
        "band_above_input_tokens": None if bill.band is None else bill.band.above_input_tokens,
        "window_utc": None if bill.window is None else bill.window.spans,
        "variant": None if bill.variant is None else dict(bill.variant.when),
        "uplifts": [{"when": dict(each.when), "times": format_ratio(each.times)} for each in bill.uplifts],
        "usd_per_credit": usd(card.usd_micros_per_credit),
        "own_key_token_factor": f"{factor.numerator}/{factor.denominator}",
    }


def _billed(line: Billed, card: RateCard) -> dict[str, Any]:
    unit = card.units.by_name[line.unit]
    return {
        "unit": line.unit,
        "count": line.quantity,
        "usd": usd(unit.price_on_card(line.price)),
        "per": unit.per,
    }


def arithmetic(event: UsageEvent, rating: Rating) -> list[str]:
    """How the amounts follow, step by step, with units; the last line is the saving."""
    amounts = rating.amounts
    charged, listed = format_credits(amounts.charged_mc), format_credits(amounts.list_mc)
    saved = format_credits(amounts.saved_mc)
    total = f"list {listed} credits − charged {charged} credits = saved {saved} credits"
    return [*_steps(event, rating, own_key=rating.resolution.key_source is KeySource.BYOK), total]


def _steps(event: UsageEvent, rating: Rating, *, own_key: bool) -> list[str]:
    card = rating.card
    match event.type:
        case EventType.NODE_CALL:
            return _node_calls(event, rating, own_key=own_key)
        case EventType.TOKEN_USAGE:
            return _tokens(event, rating, own_key=own_key)
        case EventType.TOKEN_USAGE_V2:
            return _units(event, rating, own_key=own_key)
        case EventType.TOOL_CALL:
            return _tool_calls(event, card)
        case EventType.WORKFLOW_RUN:
            free = event.parent_run_id is not None and not card.charge_subflows
            return ["a subflow's run is free on this rate card" if free else "1 run"]
        case _:
            assert_never(event.type)


def _node_calls(event: UsageEvent, rating: Rating, *, own_key: bool) -> list[str]:
    card, price = rating.card, price_of(event, rating)
    listed = f"list: {format_credits(price.tier_mc)} credits (tier {price.tier}) × {event.calls:,} calls"
    own = f"own key: {format_credits(card.own_key_node_call_mc)} credits × {event.calls:,} calls"
    return [listed, own] if own_key else [listed]


def _tool_calls(event: UsageEvent, card: RateCard) -> list[str]:
    if not event.succeeded:
        return ["failed tool calls are free"]
    return [f"{format_credits(card.tool_price(event.tool or ''))} credits × {event.calls:,} succeeded calls"]


def _tokens(event: UsageEvent, rating: Rating, *, own_key: bool) -> list[str]:
    prices = price_of(event, rating).prices
    fresh = event.input_tokens - event.cached_input_tokens
    counted = (fresh, event.cached_input_tokens, event.output_tokens)
    parts = [(tokens, prices.get(unit), name) for tokens, (unit, name) in zip(counted, _TOKENS, strict=True)]
    terms = " + ".join(
        f"{tokens:,} {name.replace('_', ' ')} tokens × {usd(micros)} USD"
        for tokens, micros, name in parts
        if micros is not None
    )
    # Tokens × micro-USD per million tokens is 10^-12 USD.
    exact = format_ratio(tokens_bill(event, rating.card, price_of(event, rating)).cost, decimals=12)
    return [f"({terms}) ÷ 1,000,000 = {exact} USD", *_to_credits(exact, rating.card, own_key=own_key)]


def _units(event: UsageEvent, rating: Rating, *, own_key: bool) -> list[str]:
    card = rating.card
    bill = bill_of(event, card, price_of(event, rating))
    steps = [_line(line, card, bill.uplifts) for line in bill.lines]
    exact = format_ratio(bill.cost, decimals=12)
    return [*steps, f"together {exact} USD", *_to_credits(exact, card, own_key=own_key)]


def _line(line: Billed, card: RateCard, uplifts: Sequence[Uplift]) -> str:
    unit = card.units.by_name[line.unit]
    times = "".join(f" × {format_ratio(uplift.times)} ({_when(uplift.when)})" for uplift in uplifts if line.is_tokens)
    return f"{line.quantity:,} {line.unit} × {usd(unit.price_on_card(line.price))} USD per {unit.per:,}{times}"


def _when(conditions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in conditions.items())


def _to_credits(exact_usd: str, card: RateCard, *, own_key: bool) -> list[str]:
    per_credit = usd(card.usd_micros_per_credit)
    steps = [f"list: {exact_usd} USD ÷ {per_credit} USD per credit, rounded half-even to 0.000001 credit"]
    if own_key:
        factor = card.own_key_token_factor
        steps.append(f"own key: the same × {factor.numerator}/{factor.denominator}, rounded once")
    return steps
