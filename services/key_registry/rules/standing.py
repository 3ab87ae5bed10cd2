"""How a credential stands at one moment. Pure; from its intervals, plan and rate card (docs/contract.md, section 4)."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from services.domain.resolution import Reason
from services.domain.scope import Plan, ScopeType


class Status(StrEnum):
    """What people see. It is never stored, so it cannot be out of date."""

    ACTIVE = "active"
    DISABLED = "disabled"
    SHADOWED = "shadowed"
    """Switched on, but not used: the organization's key, the plan or the rate card stands before it."""
    LOST = "lost"
    """It applies, and its secret went with a database: its owner enters it again, or somebody ends it."""
    DELETED = "deleted"


class Standing(NamedTuple):
    """A status, and for ``shadowed`` what stands before the key, as resolution calls it."""

    status: Status
    shadowed_by: Reason | None = None


class Surroundings(NamedTuple):
    """What decides at one moment, in one organization, whether a key that is switched on is used."""

    plan: Plan
    own_key_providers: frozenset[str]
    organization_key_providers: frozenset[str]
    """The providers for which the organization's own key is switched on."""

    @property
    def enforced_providers(self) -> frozenset[str]:
        """The providers whose team and personal keys the organization's own stands before."""
        return self.organization_key_providers if self.plan.allows(ScopeType.ORGANIZATION) else frozenset()

    def shadow(self, level: ScopeType, provider: str) -> Reason | None:
        """What stands before a key of this level; None where it is used. The order is that of resolution."""
        if provider not in self.own_key_providers:
            return Reason.PROVIDER_NOT_SUPPORTED
        if not self.plan.allows(level):
            return Reason.PLAN_NOT_ENTITLED
        if level is not ScopeType.ORGANIZATION and provider in self.enforced_providers:
            return Reason.ORGANIZATION_KEY
        return None

    def standing(
        self, level: ScopeType, provider: str, *, deleted: bool, enabled: bool, lost: bool = False
    ) -> Standing:
        """How a key of this level stands; ``lost`` is one that is not deleted, and whose secret is gone."""
        if deleted:
            return Standing(Status.DELETED)
        if lost:
            return Standing(Status.LOST)
        if not enabled:
            return Standing(Status.DISABLED)
        shadow = self.shadow(level, provider)
        return Standing(Status.ACTIVE if shadow is None else Status.SHADOWED, shadow)
