"""The simulated customers: who they are, how their plans change, and when which key arrives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from services.domain.directory import Change, Credential, Directory, ModelAliases, PlanHistory, directory_of
from services.domain.rate_card import RateCard
from services.domain.scope import Interval, Plan, Scope, ScopeType, change_plan

_ORGANIZATION, _TEAM, _PERSONAL = ScopeType.ORGANIZATION, ScopeType.TEAM, ScopeType.PERSONAL


class Organization(NamedTuple):
    """One customer. Days count from the start of the simulated time; a share is of all use."""

    org_id: str
    share: float
    plans: tuple[tuple[Plan, float], ...]
    users: tuple[str, ...]
    teams: Mapping[str, tuple[str, ...]]

    def teams_of(self, user: str) -> tuple[str, ...]:
        """The teams that the user is in."""
        return tuple(team for team, members in self.teams.items() if user in members)


class KeyArrival(NamedTuple):
    """A key that counts from ``day`` on. ``late``: it is registered only after its use was booked (backdated)."""

    org_id: str
    scope: Scope
    provider: str
    day: float
    late: bool = False


# A person without a company is an organization of one.
NIGHTOWL = Organization("nightowl", 0.12, ((Plan.FREE, 0),), ("nia",), {})
BRIGHTSIDE = Organization(
    "brightside",
    0.33,
    ((Plan.FREE, 0), (Plan.PRO, 3)),
    ("ana", "ben", "cleo", "dan", "eve"),
    {"growth": ("ana", "ben"), "product": ("cleo", "dan", "eve")},
)
MERIDIAN = Organization(
    "meridian",
    0.55,
    ((Plan.PRO, 0), (Plan.ENTERPRISE, 7)),
    ("fay", "gus", "hal", "ivy", "jon", "kim", "lea", "mia"),
    {"research": ("fay", "gus", "hal"), "data": ("ivy", "jon"), "support": ("kim", "lea", "mia", "fay")},
)
ORGANIZATIONS = (NIGHTOWL, BRIGHTSIDE, MERIDIAN)

# In the order in which they are registered: a team's key must be there before its organization's takes over.
KEYS = (
    KeyArrival("brightside", Scope(_TEAM, "growth"), "openai", 4.5),
    KeyArrival("brightside", Scope(_PERSONAL, "ana"), "anthropic", 6),
    KeyArrival("brightside", Scope(_TEAM, "product"), "google", 9),
    KeyArrival("brightside", Scope(_PERSONAL, "cleo"), "deepseek", 11),
    KeyArrival("brightside", Scope(_PERSONAL, "dan"), "xai", 13),
    KeyArrival("meridian", Scope(_TEAM, "research"), "openai", 2),
    KeyArrival("meridian", Scope(_PERSONAL, "hal"), "anthropic", 3),
    KeyArrival("meridian", Scope(_TEAM, "research"), "google", 5),
    KeyArrival("meridian", Scope(_ORGANIZATION, "meridian"), "openai", 8),
    KeyArrival("meridian", Scope(_ORGANIZATION, "meridian"), "anthropic", 10),
    KeyArrival("meridian", Scope(_TEAM, "data"), "deepseek", 12),
    KeyArrival("meridian", Scope(_ORGANIZATION, "meridian"), "xai", 15),
    KeyArrival("meridian", Scope(_PERSONAL, "ivy"), "fireworks", 17),
    KeyArrival("brightside", Scope(_TEAM, "product"), "fireworks", 12, late=True),
)


class Arrived(NamedTuple):
    """A key with the id that the registry gave it."""

    key: KeyArrival
    credential_id: str


def instant(start: datetime, day: float) -> datetime:
    """``day`` days after ``start``."""
    return start + timedelta(days=day)


def directory(
    start: datetime, cards: Iterable[RateCard], aliases: Iterable[ModelAliases], arrived: Iterable[Arrived]
) -> Directory:
    """What the pure core must know of these customers to price their use: our own copy, not the registry's."""
    changes: list[Change] = [*cards, *aliases, *(_plan_history(start, organization) for organization in ORGANIZATIONS)]
    changes += [_credential(start, each) for each in arrived]
    return directory_of(enumerate(changes, start=1))


def _plan_history(start: datetime, organization: Organization) -> PlanHistory:
    history: PlanHistory = PlanHistory(organization.org_id, ())
    for plan, day in organization.plans:
        history = history._replace(plans=change_plan(history.plans, plan, instant(start, day)))
    return history


def _credential(start: datetime, arrived: Arrived) -> Credential:
    key = arrived.key
    interval = Interval(instant(start, key.day), None)
    return Credential(arrived.credential_id, key.org_id, key.scope, key.provider, (interval,))
