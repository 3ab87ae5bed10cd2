"""Everything that moves a price, as of any time: a fold over the ordered registry log (docs/design.md, decision 3).

``price = f(event, log prefix)``; ``Directory.seq`` names the prefix. It is held in memory by every metering worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from operator import itemgetter
from typing import NamedTuple

from services.domain.rate_card import RateCard, in_force, in_order
from services.domain.scope import Interval, Plan, PlanPeriod, Scope, ScopeType


class Credential(NamedTuple):
    """One key's non-secret history: whose it is, for which provider, and when it was active."""

    credential_id: str
    org_id: str
    scope: Scope
    provider: str
    active: tuple[Interval, ...]

    def active_at(self, at: datetime) -> bool:
        """Whether the key was active at ``at``."""
        return any(interval.covers(at) for interval in self.active)


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


Change = Credential | PlanHistory | RateCard
"""What one message of the registry log says: the whole history of one credential, one plan, or one rate card."""

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
        self._slots: dict[_Slot, tuple[Credential, ...]] = {}
        self._plans: dict[str, tuple[int, PlanHistory]] = {}
        self._published: dict[str, tuple[int, RateCard]] = {}
        self._cards: tuple[RateCard, ...] = ()

    def apply(self, seq: int, change: Change) -> bool:
        """Take in the change numbered ``seq``; False, and nothing happens, when as much of its subject is known.

        A change is the whole history of one subject, so those of different subjects amount to the same in any order:
        a change that was missing from the log may still come when later ones are known. ``seq`` never goes back.
        """
        if seq <= self._known_until(change):
            return False
        if isinstance(change, Credential):
            self._apply_credential(seq, change)
        elif isinstance(change, PlanHistory):
            self._plans[change.org_id] = (seq, change)
        else:
            self._apply_card(seq, change)
        self.seq = max(self.seq, seq)
        return True

    def _known_until(self, change: Change) -> int:
        known: tuple[int, object] | None
        if isinstance(change, Credential):
            known = self._credentials.get(change.credential_id)
        elif isinstance(change, PlanHistory):
            known = self._plans.get(change.org_id)
        else:
            known = self._published.get(change.card)
        return 0 if known is None else known[0]

    def _apply_credential(self, seq: int, credential: Credential) -> None:
        before = self.credential(credential.credential_id)
        if before is not None:
            self._slots[_slot(before)] = tuple(c for c in self._slots[_slot(before)] if c is not before)
        self._credentials[credential.credential_id] = (seq, credential)
        slot = _slot(credential)
        self._slots[slot] = (*self._slots.get(slot, ()), credential)

    def _apply_card(self, seq: int, card: RateCard) -> None:
        self._published[card.card] = (seq, card)
        self._cards = in_order(published for _, published in sorted(self._published.values(), key=itemgetter(0)))

    def plan_at(self, org_id: str, at: datetime) -> Plan:
        """The organization's plan at ``at``."""
        known = self._plans.get(org_id)
        return Plan.FREE if known is None else known[1].plan_at(at)

    def active_in(self, org_id: str, scope: Scope, provider: str, at: datetime) -> Credential | None:
        """The credential that was active at ``at`` in one slot; a slot never holds two at once."""
        for credential in self._slots.get((org_id, scope.type, scope.id, provider), ()):
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
        return in_force(self._cards, at)

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
