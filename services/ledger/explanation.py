"""Why a price is what it is, in words and with units: which keys came into question, and how the amounts follow."""

from __future__ import annotations

from datetime import datetime
from typing import Any, assert_never

from services.domain.credits import format_credits, format_exactly
from services.domain.directory import Credential, Directory
from services.domain.permissions import Told
from services.domain.rate_card import ModelPrice, RateCard
from services.domain.rating import Rating
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


def card_line(event: UsageEvent, card: RateCard) -> dict[str, Any]:
    """The lines of the rate card that the price follows from, as decimals with their units."""
    line: dict[str, Any] = {"card": card.card, "effective_from": utc(card.effective_from)}
    match event.type:
        case EventType.NODE_CALL:
            return line | _node_call_prices(_price(event, card), card)
        case EventType.TOKEN_USAGE:
            return line | _token_prices(_price(event, card), card)
        case EventType.TOOL_CALL:
            return line | {"tool_call_credits": format_credits(card.tool_price(event.tool or ""))}
        case EventType.WORKFLOW_RUN:
            per_run = format_credits(card.workflow_run_mc)
            return line | {"workflow_run_credits": per_run, "charge_subflows": card.charge_subflows}
        case _:
            assert_never(event.type)


def _price(event: UsageEvent, card: RateCard) -> ModelPrice:
    return card.models[event.provider or "", event.model or ""]


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
        "input_usd_per_mtok": usd(price.input_price),
        "cached_input_usd_per_mtok": usd(price.cached_input_price),
        "output_usd_per_mtok": usd(price.output_price),
        "usd_per_credit": usd(card.usd_micros_per_credit),
        "own_key_token_factor": f"{factor.numerator}/{factor.denominator}",
    }


def arithmetic(event: UsageEvent, rating: Rating) -> list[str]:
    """How the amounts follow, step by step, with units; the last line is the saving."""
    amounts = rating.amounts
    charged, listed = format_credits(amounts.charged_mc), format_credits(amounts.list_mc)
    saved = format_credits(amounts.saved_mc)
    total = f"list {listed} credits − charged {charged} credits = saved {saved} credits"
    return [*_steps(event, rating.card, own_key=rating.resolution.key_source is KeySource.BYOK), total]


def _steps(event: UsageEvent, card: RateCard, *, own_key: bool) -> list[str]:
    match event.type:
        case EventType.NODE_CALL:
            return _node_calls(event, card, own_key=own_key)
        case EventType.TOKEN_USAGE:
            return _tokens(event, card, own_key=own_key)
        case EventType.TOOL_CALL:
            return _tool_calls(event, card)
        case EventType.WORKFLOW_RUN:
            free = event.parent_run_id is not None and not card.charge_subflows
            return ["a subflow's run is free on this rate card" if free else "1 run"]
        case _:
            assert_never(event.type)


def _node_calls(event: UsageEvent, card: RateCard, *, own_key: bool) -> list[str]:
    price = _price(event, card)
    listed = f"list: {format_credits(price.tier_mc)} credits (tier {price.tier}) × {event.calls:,} calls"
    own = f"own key: {format_credits(card.own_key_node_call_mc)} credits × {event.calls:,} calls"
    return [listed, own] if own_key else [listed]


def _tool_calls(event: UsageEvent, card: RateCard) -> list[str]:
    if not event.succeeded:
        return ["failed tool calls are free"]
    return [f"{format_credits(card.tool_price(event.tool or ''))} credits × {event.calls:,} succeeded calls"]


def _tokens(event: UsageEvent, card: RateCard, *, own_key: bool) -> list[str]:
    price = _price(event, card)
    fresh = event.input_tokens - event.cached_input_tokens
    parts = (
        (fresh, price.input_price, "input"),
        (event.cached_input_tokens, price.cached_input_price, "cached input"),
        (event.output_tokens, price.output_price, "output"),
    )
    cost = sum(tokens * micros for tokens, micros, _ in parts)
    terms = " + ".join(f"{tokens:,} {name} tokens × {usd(micros)} USD" for tokens, micros, name in parts)
    # Tokens × micro-USD per million tokens is 10^-12 USD.
    exact = format_exactly(cost, decimals=12)
    steps = [
        f"({terms}) ÷ 1,000,000 = {exact} USD",
        f"list: {exact} USD ÷ {usd(card.usd_micros_per_credit)} USD per credit, rounded half-even to 0.000001 credit",
    ]
    if own_key:
        factor = card.own_key_token_factor
        steps.append(f"own key: the same × {factor.numerator}/{factor.denominator}, rounded once")
    return steps
