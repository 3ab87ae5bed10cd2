"""Whose keys a page is about: one's own, a team's, the organization's, or all of them; in the URL as level and id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from services.domain.permissions import Action, Caller, may, sight
from services.domain.scope import Plan, Scope, ScopeType

ALL = "all"
"""The level under which everybody's keys are listed."""


class Space(NamedTuple):
    """One tab: whose keys."""

    label: str
    level: str
    id: str

    @property
    def scope(self) -> Scope | None:
        """None: all of the organization."""
        return None if self.level == ALL else Scope(ScopeType(self.level), self.id)

    @property
    def fields(self) -> dict[str, str]:
        """Of the URL."""
        return {"level": self.level, "id": self.id if self.level == ScopeType.TEAM else ""}

    def is_included(self, plan: Plan) -> bool:
        """Whether the plan has keys of this level; of everybody's where it has any."""
        scope = self.scope
        return plan.allows(scope.type if scope else ScopeType.PERSONAL)


def spaces(caller: Caller, org_id: str) -> tuple[Space, ...]:
    """The tabs of somebody: their own, each of their teams', the organization's; everybody's where they see all."""
    own: list[Space] = []
    if caller.is_person_of(org_id):
        own.append(Space("Personal", ScopeType.PERSONAL, caller.id))
        own += [Space(f"Team {team}", ScopeType.TEAM, team) for team in sorted(caller.teams)]
    own.append(Space("Organization", ScopeType.ORGANIZATION, org_id))
    if sight(caller, org_id).everything:
        own.append(Space("Everybody's", ALL, ""))
    return tuple(own)


def space_of(query: Mapping[str, str], caller: Caller, org_id: str) -> Space:
    """The tab that the URL names; of one that is none, or of what is not the caller's, the first."""
    known = spaces(caller, org_id)
    level, id_ = query.get("level", ""), query.get("id", "")
    found = (each for each in known if each.level == level and (each.level != ScopeType.TEAM or each.id == id_))
    return next(found, known[0])


def may_add(caller: Caller, org_id: str, scope: Scope) -> bool:
    """Whether it is worth to show a form: the registry decides."""
    return may(caller, Action.ADD, org_id, scope)
