"""Everything that moves a price, as of any time: a fold over the ordered registry log (docs/design.md, decision 3).

``price = f(event, log prefix)``; ``Directory.seq`` names the prefix. It is held in memory by every metering worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from difflib import get_close_matches
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple, assert_never

from services.domain.rate_card import RateCard, in_order
from services.domain.scope import Interval, Plan, PlanPeriod, Scope, ScopeType, Span, any_covers, holding, span


class Credential(NamedTuple):
    """One key's non-secret history: whose it is, for which provider, and when it was active."""

    credential_id: str
    org_id: str
    scope: Scope
    provider: str
    active: tuple[Interval, ...]

    def active_at(self, at: datetime) -> bool:
        """Whether the key was active at ``at``."""
        return any_covers(self.active, at)


class PlanHistory(NamedTuple):
    """The plans of one organization, in order of time."""

    org_id: str
    plans: tuple[PlanPeriod, ...]

    def plan_at(self, at: datetime) -> Plan:
        """The organization's plan at ``at``; ``free`` where none is known (docs/contract.md, section 4)."""
        for period in reversed(self.plans):
            if period.interval.covers(at):
                return period.plan
        return Plan.FREE


class ModelAliases(NamedTuple):
    """Other names that runners report for models of one provider. A name is only ever added."""

    provider: str
    aliases: Mapping[str, str]
    """To each of them the name under which cards list the model."""


Change = Credential | PlanHistory | RateCard | ModelAliases
"""What one message of the registry log says: the whole history of one credential, one plan, one rate card, or all
other names of one provider's models."""


# Whoever sends a name that is wrong sends it often, and to compare it with every other takes its time.
@lru_cache(maxsize=1_024)
def _near(name: str, names: tuple[str, ...]) -> list[str]:
    return get_close_matches(name, names, n=2)


_Slot = tuple[str, ScopeType, str, str]


def _slot(credential: Credential) -> _Slot:
    return (credential.org_id, credential.scope.type, credential.scope.id, credential.provider)


class Directory:
    """As-of answers about credentials, plans and rate cards. Changed only by ``apply``."""

    def __init__(self) -> None:
        """An empty directory knows no prefix of the log: ``seq`` 0."""
        self.seq = 0
        # Each with the number of the change that said so.
        self._credentials: dict[str, tuple[int, Credential]] = {}
        self._active: dict[_Slot, tuple[Credential, ...]] = {}
        self._plans: dict[str, tuple[int, PlanHistory]] = {}
        self._published: dict[str, tuple[int, RateCard]] = {}
        self._cards: tuple[RateCard, ...] = ()
        self._aliases: dict[str, tuple[int, ModelAliases]] = {}
        # The same as every event asks for it, made anew with each change of it.
        self._plan_spans: dict[str, tuple[Span[Plan], ...]] = {}
        self._newest_cards: tuple[Span[RateCard], ...] = ()

    def copy(self) -> Directory:
        """Another that knows the same now. What it knows is shared, for nothing of it ever changes."""
        copied = Directory()
        copied.__dict__ |= {
            name: value.copy() if isinstance(value, dict) else value for name, value in vars(self).items()
        }
        return copied

    def apply(self, seq: int, change: Change) -> bool:
        """Take in the change numbered ``seq``; False, and nothing happens, when as much of its subject is known.

        A change is the whole history of one subject, so those of different subjects amount to the same in any order:
        a change that was missing from the log may still come when later ones are known. ``seq`` never goes back.
        """
        if seq <= self._known_until(change):
            return False
        match change:
            case Credential():
                self._apply_credential(seq, change)
            case PlanHistory():
                self._plans[change.org_id] = (seq, change)
                self._plan_spans[change.org_id] = tuple(
                    span(each.interval, each.plan) for each in reversed(change.plans)
                )
            case RateCard():
                self._apply_card(seq, change)
            case ModelAliases():
                self._aliases[change.provider] = (seq, change)
            case _:
                assert_never(change)
        self.seq = max(self.seq, seq)
        return True

    def _known_until(self, change: Change) -> int:
        known: tuple[int, object] | None
        match change:
            case Credential():
                known = self._credentials.get(change.credential_id)
            case PlanHistory():
                known = self._plans.get(change.org_id)
            case RateCard():
                known = self._published.get(change.card)
            case ModelAliases():
                known = self._aliases.get(change.provider)
            case _:
                assert_never(change)
        return 0 if known is None else known[0]

    def _apply_credential(self, seq: int, credential: Credential) -> None:
        before = self.credential(credential.credential_id)
        if before is not None:
            self._active[_slot(before)] = tuple(each for each in self._active[_slot(before)] if each is not before)
        self._credentials[credential.credential_id] = (seq, credential)
        slot = _slot(credential)
        self._active[slot] = (*self._active.get(slot, ()), credential)

    def _apply_card(self, seq: int, card: RateCard) -> None:
        self._published[card.card] = (seq, card)
        self._cards = in_order(published for _, published in sorted(self._published.values(), key=itemgetter(0)))
        self._newest_cards = tuple(span(Interval(each.effective_from, None), each) for each in reversed(self._cards))

    def plan_at(self, org_id: str, at: datetime) -> Plan:
        """The organization's plan at ``at``."""
        return holding(self._plan_spans.get(org_id, ()), at) or Plan.FREE

    def active_in(self, org_id: str, level: ScopeType, owner: str, provider: str, at: datetime) -> Credential | None:
        """The credential that was active at ``at`` in one slot; a slot never holds two at once.

        ``owner`` is the id of the organization, team or user whose key it would be.
        """
        # Without spans made of them beforehand, which took a tenth of all memory: there are as many as intervals.
        for credential in self._active.get((org_id, level, owner, provider), ()):
            if credential.active_at(at):
                return credential
        return None

    def credential(self, credential_id: str) -> Credential | None:
        """The credential of that id, whatever its state."""
        known = self._credentials.get(credential_id)
        return None if known is None else known[1]

    def plans_of(self, org_id: str) -> tuple[PlanPeriod, ...]:
        """The plan history of one organization; empty where none is known."""
        known = self._plans.get(org_id)
        return () if known is None else known[1].plans

    def card_at(self, at: datetime) -> RateCard | None:
        """The rate card in force at ``at``; None before the first."""
        return holding(self._newest_cards, at)

    def aliases_of(self, provider: str) -> Mapping[str, str]:
        """Every other name of the provider's models, to the name that cards list."""
        known = self._aliases.get(provider)
        return {} if known is None else known[1].aliases

    def listed_as(self, card: RateCard, provider: str, model: str) -> str | None:
        """Under which name the card lists a model: its own, else the one that it is another name of."""
        if (provider, model) in card.models:
            return model
        listed = self.aliases_of(provider).get(model)
        return listed if listed is not None and (provider, listed) in card.models else None

    def names_near(self, card: RateCard, provider: str, model: str) -> tuple[str, ...]:
        """Names that can be priced by the card and that may have been meant by one that cannot; at most two."""
        listed = (name for owner, name in card.models if owner == provider)
        near = _near(model, (*listed, *self.aliases_of(provider)))
        named = (self.listed_as(card, provider, name) for name in near)
        return tuple(dict.fromkeys(name for name in named if name is not None))

    @property
    def cards(self) -> tuple[RateCard, ...]:
        """All rate cards in the order in which they come into force."""
        return self._cards


def directory_of(changes: Iterable[tuple[int, Change]] | Mapping[int, Change]) -> Directory:
    """The directory that a log prefix, given as pairs of ``seq`` and change, amounts to."""
    directory = Directory()
    for seq, change in sorted(changes.items() if isinstance(changes, Mapping) else changes, key=lambda pair: pair[0]):
        directory.apply(seq, change)
    return directory
