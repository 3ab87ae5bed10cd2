"""Arbitrary events, directories and changes, small enough that they meet: few owners, few keys, few instants.

Each value is one number, taken apart by `_Digits`: few draws instead of dozens keep the laws quick to try.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import product
from typing import Any, TypeVar

from hypothesis import strategies as st

from services.domain.directory import Change, Credential, ModelAliases, PlanHistory
from services.domain.rate_card import RateCard
from services.domain.scope import Interval, Plan, PlanPeriod, Scope, ScopeType, change_plan
from services.domain.usage import Claim, EventType, UsageEvent, tokens_in
from tests.factories import ORG, START, card, card_2, card_body, card_body_2, model_line

T = TypeVar("T")

ORGS = (ORG, "org-2")
TEAMS = ("team-1", "team-2")
USERS = ("user-1", "user-2", "team-1")
KEYS = ("key-1", "key-2", "key-3")
CARDS = ("card-1", "card-2", "card-3")
MODELS = (("openai", "small"), ("openai", "large"), ("anthropic", "large"), ("mistral", "small"), ("openai", "s"))
ALIASES = ({"s": "small"}, {"s": "small", "l": "large"}, {"l": "large"})
CLAIMS = (None, None, Claim(None), *(Claim(key) for key in (*KEYS, "unknown")))
# Two ticks are a lease's life.
BOUNDARIES = tuple(START + tick * timedelta(seconds=150) for tick in range(16))
INSTANTS = tuple(at + timedelta(microseconds=around) for at, around in product(BOUNDARIES, (-1, 0, 1)))
TOKENS = (0, 1, 2, 3, 5, 7, 11, 1_000, 10**10)


class _Digits:
    """A number, read as choices: the remainder says which, the rest is left for the next choice."""

    def __init__(self, number: int) -> None:
        self._rest = number

    def pick(self, choices: Sequence[T]) -> T:
        self._rest, index = divmod(self._rest, len(choices))
        return choices[index]


# Hypothesis prefers small numbers to large ones, which would leave the last choices to their first: up to 24 bits it
# does not.
_NUMBERS = st.tuples(*[st.sampled_from(range(2**21))] * 3).map(lambda parts: parts[0] << 42 | parts[1] << 21 | parts[2])


def _one_draw(make: Callable[[_Digits], T]) -> st.SearchStrategy[T]:
    return _NUMBERS.map(lambda number: make(_Digits(number)))


def instants() -> st.SearchStrategy[Any]:
    """Boundaries, each with its neighbours."""
    return st.sampled_from(INSTANTS)


def boundaries() -> st.SearchStrategy[Any]:
    """The instants at which something begins or ends."""
    return st.sampled_from(BOUNDARIES)


def _intervals(digits: _Digits) -> tuple[Interval, ...]:
    ends = sorted({digits.pick(BOUNDARIES) for _ in range(digits.pick((0, 1, 1, 1, 2, 2, 3, 4)))})
    bounds = [*ends, None]
    return tuple(Interval(ends[index], bounds[index + 1]) for index in range(0, len(ends), 2))


def disjoint_intervals() -> st.SearchStrategy[tuple[Interval, ...]]:
    """Intervals in order that do not overlap; the last may be open."""
    return _one_draw(_intervals)


def _credential(digits: _Digits) -> Credential:
    org_id = digits.pick(ORGS)
    scopes = (
        *[Scope(ScopeType.ORGANIZATION, org_id)] * 2,
        *(Scope(ScopeType.TEAM, team) for team in TEAMS),
        *(Scope(ScopeType.PERSONAL, user) for user in USERS),
    )
    provider = digits.pick(("openai", "openai", "anthropic", "mistral"))
    return Credential(digits.pick(KEYS), org_id, digits.pick(scopes), provider, _intervals(digits))


def credentials() -> st.SearchStrategy[Credential]:
    """Any credential, with any history."""
    return _one_draw(_credential)


def _plan_history(digits: _Digits) -> PlanHistory:
    periods: tuple[PlanPeriod, ...] = ()
    for _ in range(digits.pick((1, 1, 2, 3))):
        plan = digits.pick((Plan.ENTERPRISE, Plan.ENTERPRISE, Plan.PRO, Plan.FREE))
        periods = change_plan(periods, plan, digits.pick(BOUNDARIES))
    return PlanHistory(digits.pick(ORGS), periods)


def plan_histories() -> st.SearchStrategy[PlanHistory]:
    """The plans of an organization after any changes, backdated ones among them."""
    return _one_draw(_plan_history)


def _card_variant(number: int) -> RateCard:
    """Cards differ in everything they may differ in."""
    digits = _Digits(number)
    own_key = card_body()["own_key"] | {
        "providers": digits.pick((["openai", "anthropic"], ["openai", "mistral"])),
        "scope_order": digits.pick((["team", "personal"], ["personal", "team"])),
        "token_factor": digits.pick(("0.5", "0.25", "0.333333")),
    }
    line = model_line(digits.pick(("standard", "expert")), digits.pick(("0.0025", "15")), "0.0075", "2")
    models = {"openai": {"small": line, "large": line}, "mistral": {"small": line}}
    if digits.pick((False, True)):
        models["anthropic"] = {"large": line}
    run = {"credits": 1, "charge_subflows": digits.pick((False, True))}
    if digits.pick((False, True)):
        by_unit = card_body_2()["models"]["openai"]
        return card_2(own_key=own_key, models={"openai": by_unit, "mistral": by_unit}, workflow_run=run)
    return card(own_key=own_key, models=models, workflow_run=run)


_CARD_VARIANTS = tuple(_card_variant(number) for number in range(2 * 2 * 3 * 2 * 2 * 2 * 2 * 2))


def rate_cards() -> st.SearchStrategy[RateCard]:
    """Any card of three, from any time on."""
    return _one_draw(
        lambda digits: digits.pick(_CARD_VARIANTS)._replace(
            card=digits.pick(CARDS), effective_from=digits.pick(BOUNDARIES)
        )
    )


def changes() -> st.SearchStrategy[Change]:
    """Anything that the registry log can say."""
    return st.one_of(credentials(), credentials(), plan_histories(), rate_cards(), model_aliases())


def model_aliases() -> st.SearchStrategy[ModelAliases]:
    """Other names of models. The same name never stands for another model."""
    return _one_draw(lambda digits: ModelAliases(digits.pick(("openai", "openai", "mistral")), digits.pick(ALIASES)))


def _event(digits: _Digits) -> UsageEvent:
    of_models = (EventType.NODE_CALL, EventType.TOKEN_USAGE, EventType.TOKEN_USAGE_V2)
    kind = digits.pick(of_models * 2 + (EventType.TOOL_CALL, EventType.WORKFLOW_RUN))
    event = UsageEvent(
        org_id=digits.pick(ORGS),
        source="runner",
        id="event-1",
        type=kind,
        occurred_at=digits.pick(INSTANTS),
        user_id=digits.pick(USERS),
        team_id=digits.pick((None, *TEAMS)),
        run_id=digits.pick((None, "run-1")),
    )
    calls = digits.pick((1, 2, 7, 10**6))
    if kind is EventType.TOOL_CALL:
        return event._replace(tool="send_mail", calls=calls, succeeded=digits.pick((True, False)))
    if kind is EventType.WORKFLOW_RUN:
        return event._replace(workflow_id="flow-1", run_id="run-1", parent_run_id=digits.pick((None, "run-0")))
    provider, model = digits.pick(MODELS)
    event = event._replace(provider=provider, model=model, claim=digits.pick(CLAIMS))
    if kind is EventType.NODE_CALL:
        return event._replace(node="ask_ai", calls=calls)
    fresh, cached, output = (digits.pick(TOKENS) for _ in range(3))
    if kind is EventType.TOKEN_USAGE_V2:
        usage = (("cache_read", min(cached, fresh)), ("input", fresh), ("output", output))
        conditions = digits.pick(((), (), (("processing", "batch"),), (("region", "us"),)))
        return event._replace(agent_id="agent-1", usage=usage, conditions=conditions, **tokens_in(dict(usage)))
    return event._replace(
        agent_id="agent-1", input_tokens=fresh, cached_input_tokens=min(cached, fresh), output_tokens=output
    )


def events() -> st.SearchStrategy[UsageEvent]:
    """Any event, as `translate` would make it."""
    return _one_draw(_event)


@st.composite
def histories(draw: st.DrawFn, max_size: int = 8) -> list[Change]:
    """A registry log as the registry writes it.

    A credential keeps its owner and provider, a slot never holds two active ones, a card is published once.
    """
    entitled = Interval(START, None)
    log: list[Change] = []
    if draw(st.booleans()):
        log += [PlanHistory(org_id, (PlanPeriod(Plan.ENTERPRISE, entitled),)) for org_id in ORGS]
    owners: dict[str, Credential] = {}
    cards: set[str] = set()
    names: dict[str, dict[str, str]] = {}
    for change in draw(st.lists(changes(), max_size=max_size)):
        if isinstance(change, RateCard):
            if change.card in cards:
                continue
            cards.add(change.card)
            log.append(change)
        elif isinstance(change, Credential):
            first = owners.get(change.credential_id, change)
            renewed = first._replace(active=change.active)
            if not _is_crowded(renewed, owners):
                owners[change.credential_id] = renewed
                log.append(renewed)
        elif isinstance(change, ModelAliases):
            # A name is only ever added.
            names[change.provider] = {**names.get(change.provider, {}), **change.aliases}
            log.append(change._replace(aliases=names[change.provider]))
        else:
            log.append(change)
    return log


def _is_crowded(credential: Credential, owners: dict[str, Credential]) -> bool:
    return any(
        one.overlaps(other)
        for neighbour in owners.values()
        if neighbour.credential_id != credential.credential_id and neighbour[1:4] == credential[1:4]
        for one in neighbour.active
        for other in credential.active
    )


LEASE_EDGES = tuple(timedelta(seconds=seconds, microseconds=around) for seconds in (0, 300) for around in (-1, 0, 1))


def _event_near(log: Sequence[Change], digits: _Digits) -> UsageEvent:
    """An event about one of the log's keys: of its owner, at an edge of its life or of a lease, mostly claiming it."""
    event = _event(digits)._replace(type=EventType.NODE_CALL, node="ask_ai", tool=None, calls=1, model="small")
    keys = [change for change in log if isinstance(change, Credential) and change.active]
    if not keys:
        return event._replace(provider="openai")
    key = digits.pick(keys)
    edges = [edge for each in key.active for edge in each if edge is not None]
    owners: dict[str, Any] = {"team": {"team_id": key.scope.id}, "personal": {"user_id": key.scope.id}}
    return event._replace(
        org_id=key.org_id,
        provider=key.provider,
        model="large" if key.provider == "anthropic" else "small",
        occurred_at=digits.pick(edges) + digits.pick(LEASE_EDGES),
        claim=digits.pick((Claim(key.credential_id), Claim(key.credential_id), *CLAIMS)),
        **owners.get(key.scope.type.value, {}),
    )


@st.composite
def logs_and_events(draw: st.DrawFn, max_size: int = 8) -> tuple[list[Change], list[UsageEvent]]:
    """A log, events of any kind, and events about the log's own keys."""
    log = draw(histories(max_size))
    near = [_event_near(log, _Digits(number)) for number in draw(st.lists(_NUMBERS, min_size=2, max_size=6))]
    return log, [*near, *draw(st.lists(events(), max_size=3))]
