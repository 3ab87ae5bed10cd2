"""Arbitrary events, directories and changes, small enough that they meet: few owners, few keys, few instants."""

from __future__ import annotations

from datetime import datetime, timedelta

from factories import ORG, START, card, card_body, model_line
from hypothesis import strategies as st

from services.domain.directory import Change, Credential, PlanHistory
from services.domain.rate_card import RateCard
from services.domain.scope import Interval, Plan, PlanPeriod, Scope, ScopeType, change_plan
from services.domain.usage import Claim, EventType, UsageEvent

ORGS = (ORG, "org-2")
TEAMS = ("team-1", "team-2")
USERS = ("user-1", "user-2", "team-1")
KEYS = ("key-1", "key-2", "key-3")
MODELS = (("openai", "small"), ("openai", "large"), ("anthropic", "large"), ("mistral", "small"))
_TICK = timedelta(seconds=150)
_AROUND = (timedelta(microseconds=-1), timedelta(0), timedelta(microseconds=1))


def instants() -> st.SearchStrategy[datetime]:
    """Boundaries, each with its neighbours; two ticks are a lease's life."""
    return st.builds(lambda tick, around: START + tick * _TICK + around, st.integers(0, 24), st.sampled_from(_AROUND))


def boundaries() -> st.SearchStrategy[datetime]:
    """The instants at which something begins or ends."""
    return st.builds(lambda tick: START + tick * _TICK, st.integers(0, 24))


def disjoint_intervals(max_size: int = 3) -> st.SearchStrategy[tuple[Interval, ...]]:
    """Intervals in order that do not overlap; the last may be open."""

    def pair_up(ends: list[datetime]) -> tuple[Interval, ...]:
        ordered = sorted(ends)
        bounds: list[datetime | None] = [*ordered, None]
        return tuple(Interval(ordered[i], bounds[i + 1]) for i in range(0, len(ordered), 2))

    return st.lists(boundaries(), max_size=2 * max_size, unique=True).map(pair_up)


def scopes(org_id: str) -> st.SearchStrategy[Scope]:
    """An owner of keys in one organization."""
    return st.one_of(
        st.just(Scope(ScopeType.ORGANIZATION, org_id)),
        st.sampled_from(TEAMS).map(lambda team: Scope(ScopeType.TEAM, team)),
        st.sampled_from(USERS).map(lambda user: Scope(ScopeType.PERSONAL, user)),
    )


@st.composite
def credentials(draw: st.DrawFn) -> Credential:
    """Any credential, with any history."""
    org_id = draw(st.sampled_from(ORGS))
    return Credential(
        draw(st.sampled_from(KEYS)),
        org_id,
        draw(scopes(org_id)),
        draw(st.sampled_from(("openai", "anthropic", "mistral"))),
        draw(disjoint_intervals()),
    )


@st.composite
def plan_histories(draw: st.DrawFn) -> PlanHistory:
    """The plans of an organization after any changes, backdated ones among them."""
    periods: tuple[PlanPeriod, ...] = ()
    changes = draw(
        st.lists(st.tuples(st.sampled_from([Plan.ENTERPRISE, Plan.PRO, Plan.FREE]), boundaries()), max_size=4)
    )
    for plan, start in changes:
        periods = change_plan(periods, plan, start)
    return PlanHistory(draw(st.sampled_from(ORGS)), periods)


@st.composite
def rate_cards(draw: st.DrawFn, names: tuple[str, ...] = ("card-1", "card-2", "card-3")) -> RateCard:
    """Cards that differ in everything they may differ in."""
    own_key = card_body()["own_key"] | {
        "providers": draw(st.sampled_from([["openai", "anthropic"], ["openai"], ["openai", "mistral"]])),
        "scope_order": draw(st.permutations(["team", "personal"])),
        "token_factor": draw(st.sampled_from(["0.5", "0.25", "0.333333", "1", "0"])),
    }
    price = draw(st.sampled_from(["0.0025", "1.25", "15"]))
    models = {
        provider: {model: model_line(draw(st.sampled_from(["standard", "expert"])), price, "0.0075", "2")}
        for provider, model in draw(st.sets(st.sampled_from(MODELS), min_size=2))
    }
    return card(
        draw(st.sampled_from(names)),
        draw(boundaries()),
        own_key=own_key,
        models=models,
        workflow_run={"credits": 1, "charge_subflows": draw(st.booleans())},
    )


def changes() -> st.SearchStrategy[Change]:
    """Anything that the registry log can say."""
    return st.one_of(credentials(), credentials(), plan_histories(), rate_cards())


def claims() -> st.SearchStrategy[Claim | None]:
    """No claim, the platform's key, or some credential, known or not."""
    return st.sampled_from([None, Claim(None), *(Claim(key) for key in (*KEYS, "unknown"))])


@st.composite
def events(draw: st.DrawFn) -> UsageEvent:
    """Any event, as `translate` would make it."""
    kind = draw(st.sampled_from(EventType))
    event = UsageEvent(
        org_id=draw(st.sampled_from(ORGS)),
        source="runner",
        id="event-1",
        type=kind,
        occurred_at=draw(instants()),
        user_id=draw(st.sampled_from(USERS)),
        team_id=draw(st.sampled_from([None, *TEAMS])),
        run_id=draw(st.sampled_from([None, "run-1"])),
    )
    if kind is EventType.TOOL_CALL:
        return event._replace(tool="send_mail", calls=draw(st.integers(1, 10**6)), succeeded=draw(st.booleans()))
    if kind is EventType.WORKFLOW_RUN:
        parent = draw(st.sampled_from([None, "run-0"]))
        return event._replace(workflow_id="flow-1", run_id="run-1", parent_run_id=parent)
    provider, model = draw(st.sampled_from(MODELS))
    event = event._replace(provider=provider, model=model, claim=draw(claims()))
    if kind is EventType.NODE_CALL:
        return event._replace(node="ask_ai", calls=draw(st.integers(1, 10**6)))
    tokens = st.one_of(st.integers(0, 12), st.integers(0, 10**10))
    fresh = draw(tokens)
    return event._replace(
        agent_id="agent-1",
        input_tokens=fresh,
        cached_input_tokens=draw(st.integers(0, fresh)),
        output_tokens=draw(tokens),
    )
