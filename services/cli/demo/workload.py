"""What the customers do for some weeks: workflows, agents and tools, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from random import Random
from typing import NamedTuple

from services.cli.demo.company import ORGANIZATIONS, Organization
from services.domain.directory import Directory
from services.domain.model_prices import CACHE_READ, INPUT, OUTPUT
from services.domain.rate_card import RateCard
from services.domain.resolution import Resolution, Use, resolve_unclaimed
from services.domain.usage import Claim, EventType, UsageEvent

_PROVIDERS = {
    "openai": 30,
    "anthropic": 26,
    "google": 13,
    "fireworks": 9,
    "deepseek": 8,
    "xai": 6,
    # These two take no own keys.
    "mistral": 5,
    "perplexity": 3,
}
_NODES = ("ask_ai", "categorizer", "extract_data", "scorer", "summarizer")
_TOOLS = ("gmail_send", "sheets_append", "slack_post", "web_search", "crm_update")
_WORKFLOWS = ("lead-enrichment", "ticket-triage", "weekly-digest", "invoice-intake", "call-notes")
_AGENTS = ("support-agent", "research-agent", "ops-agent")
_WORK_HOURS = range(8, 19)
_LONGEST_SESSION = timedelta(minutes=10)
_SATURDAY = 5
_CLAIMED_SHARE = 0.15
_SUMMED_UP_SHARE = 0.2
CACHE_WRITE, WEB_SEARCH = "cache_write_5m", "web_search"


class _Session(NamedTuple):
    """Someone at work: one workflow run or one conversation with an agent."""

    organization: Organization
    user_id: str
    team_id: str | None
    run_id: str
    at: datetime


def simulate(directory: Directory, *, seed: int, count: int, start: datetime, end: datetime) -> list[UsageEvent]:
    """``count`` events in ``[start, end)``, in order of time. ``directory``: the cards and keys known at the time."""
    events = list(islice(_Simulation(directory, Random(seed), start, end).events(), count))  # noqa: S311 - no secret
    return sorted(events, key=lambda event: (event.occurred_at, event.id))


class _Simulation:
    def __init__(self, directory: Directory, random: Random, start: datetime, end: datetime) -> None:
        self._directory = directory
        self._random = random
        hours = int((end - start - _LONGEST_SESSION) / timedelta(hours=1))
        self._slots = [start + timedelta(hours=hour) for hour in range(hours)]
        self._weights = [_busyness(slot, index / hours) for index, slot in enumerate(self._slots)]

    def events(self) -> Iterator[UsageEvent]:
        number = 0
        while True:
            number += 1
            session = self._session(f"run-{number:06}")
            yield from self._workflow(session) if self._random.random() < 0.55 else self._conversation(session)

    def _session(self, run_id: str) -> _Session:
        random = self._random
        (organization,) = random.choices(ORGANIZATIONS, [organization.share for organization in ORGANIZATIONS])
        user = random.choice(organization.users)
        # A third of the use is in the personal space.
        team = random.choice((*organization.teams_of(user), *organization.teams_of(user), None))
        (hour,) = random.choices(self._slots, self._weights)
        at = hour + timedelta(microseconds=random.randrange(3_600_000_000))
        return _Session(organization, user, team, run_id, at)

    def _workflow(self, session: _Session, parent_run_id: str | None = None) -> Iterator[UsageEvent]:
        random = self._random
        step = _Steps(session, random)
        run = step.event(EventType.WORKFLOW_RUN)
        yield run._replace(workflow_id=random.choice(_WORKFLOWS), run_id=session.run_id, parent_run_id=parent_run_id)
        for _ in range(random.randint(1, 4)):
            # Loop mode calls a node once for each item.
            calls = random.choices((1, random.randint(2, 60)), (5, 1))[0]
            yield self._with_model(step.event(EventType.NODE_CALL)._replace(node=random.choice(_NODES), calls=calls))
        for _ in range(random.randint(0, 2)):
            yield self._tool_call(step)
        if parent_run_id is None and random.random() < 0.2:
            subflow = session._replace(run_id=f"{session.run_id}-sub", at=step.at)
            yield from self._workflow(subflow, parent_run_id=session.run_id)

    def _conversation(self, session: _Session) -> Iterator[UsageEvent]:
        random = self._random
        step, agent, context = _Steps(session, random), random.choice(_AGENTS), 0
        for _ in range(random.randint(1, 6)):
            new, output = random.randint(200, 9_000), random.randint(30, 1_500)
            # What the model has read before in this conversation comes out of its provider's cache.
            yield self._answer(step, agent, context, new, output)
            context += new + output
            if random.random() < 0.4:
                yield self._tool_call(step)

    def _tool_call(self, step: _Steps) -> UsageEvent:
        succeeded = self._random.random() > 0.08
        event = step.event(EventType.TOOL_CALL)
        return event._replace(tool=self._random.choice(_TOOLS), calls=1, succeeded=succeeded)

    def _answer(self, step: _Steps, agent: str, cached: int, new: int, output: int) -> UsageEvent:
        """What one answer of an agent's model used: by unit, once the card in force knows more of them than three."""
        event = step.event(EventType.TOKEN_USAGE)._replace(agent_id=agent)
        event = event._replace(input_tokens=cached + new, cached_input_tokens=cached, output_tokens=output)
        by_unit = WEB_SEARCH in self._card(event).units.by_name
        if not by_unit or self._random.random() < _SUMMED_UP_SHARE:
            return self._with_model(event)
        return self._by_unit(self._with_model(event._replace(type=EventType.TOKEN_USAGE_V2)), new)

    def _by_unit(self, event: UsageEvent, new: int) -> UsageEvent:
        random, card = self._random, self._card(event)
        price = card.models[event.provider or "", event.model or ""]
        usage = {INPUT: event.input_tokens, CACHE_READ: event.cached_input_tokens, OUTPUT: event.output_tokens}
        usage["reasoning"] = random.randint(0, event.output_tokens)
        if CACHE_WRITE in price.prices:
            usage[CACHE_WRITE] = random.randint(0, new)
        if WEB_SEARCH in price.prices and random.random() < 0.1:
            usage[WEB_SEARCH] = random.randint(1, 3)
        special = [each.when for each in price.variants] + [each.when for each in price.uplifts]
        conditions = random.choice(special) if special and random.random() < 0.2 else {}
        names = [name for name, of in self._directory.aliases_of(event.provider or "").items() if of == event.model]
        return event._replace(
            model=random.choice(names) if names and random.random() < 0.3 else event.model,
            usage=tuple(sorted(usage.items())),
            conditions=tuple(sorted(conditions.items())),
            is_partial=random.random() < 0.01,
        )

    def _card(self, event: UsageEvent) -> RateCard:
        card = self._directory.card_at(event.occurred_at)
        if card is None:
            raise ValueError("the simulated time must not begin before the first rate card")
        return card

    def _with_model(self, event: UsageEvent) -> UsageEvent:
        (provider,) = self._random.choices(tuple(_PROVIDERS), tuple(_PROVIDERS.values()))
        card = self._card(event)
        # Embeddings and audio are nobody's agents.
        models = (key for key, price in card.models.items() if price.prices.keys() >= {INPUT, CACHE_READ, OUTPUT})
        model = self._random.choice(sorted(name for owner, name in models if owner == provider))
        event = event._replace(provider=provider, model=model)
        if self._random.random() > _CLAIMED_SHARE:
            return event
        use = Use(event.org_id, event.team_id, event.user_id, provider, event.occurred_at)
        return event._replace(claim=self._claim(resolve_unclaimed(use, self._directory, card)))

    def _claim(self, applies: Resolution) -> Claim:
        """What a runner says it used: mostly the key that applies, sometimes the platform's, rarely something wrong."""
        kind = self._random.random()
        if kind < 0.08:
            return Claim("no-such-credential")
        if applies.credential is None or kind < 0.2:
            return Claim(None)
        return Claim(applies.credential.credential_id)


class _Steps:
    """Events of one session, one after the other in time, with ids that follow from the act."""

    def __init__(self, session: _Session, random: Random) -> None:
        self._session = session
        self._random = random
        self._number = 0
        self.at = session.at

    def event(self, event_type: EventType) -> UsageEvent:
        """The next event, so far with what all types have."""
        session = self._session
        self._number += 1
        self.at += timedelta(microseconds=self._random.randrange(100_000, 12_000_000))
        return UsageEvent(
            org_id=session.organization.org_id,
            source="demo/runner",
            id=f"{session.run_id}/{self._number}",
            type=event_type,
            occurred_at=self.at,
            user_id=session.user_id,
            team_id=session.team_id,
            run_id=session.run_id,
        )


def _busyness(hour: datetime, elapsed: float) -> float:
    """How much happens in an hour: working hours and days count most, and use grows by half over the whole time."""
    daily = 1.0 if hour.hour in _WORK_HOURS else 0.12
    weekly = 0.3 if hour.weekday() >= _SATURDAY else 1.0
    return daily * weekly * (1 + elapsed / 2)
