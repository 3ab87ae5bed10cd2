"""The registry's guards: what one may not do (services/domain/permissions.py) as refusals that a caller is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from services.domain.permissions import CREDENTIALS_WRITE, EVERY_ORGANIZATION, Principal
from services.key_registry.rules.refusals import Code
from services.runtime.refusals import Refusal


class Origin(NamedTuple):
    """Where a request came from, and what its sender says of it; for the audit log alone, and trusted for nothing."""

    client_address: str | None = None
    request_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Actor(Principal):
    """Who asks, and from where."""

    origin: Origin = field(default_factory=Origin)


def require_organization(actor: Actor, org_id: str) -> None:
    """Raise Refusal ``organization_forbidden`` where the actor's token is not good for the organization.

    No organization can be called ``*``: a token of its own would be good for every organization.
    """
    if org_id == EVERY_ORGANIZATION:
        raise Refusal(Code.INVALID_REQUEST, "* stands for every organization; it is none.", field="org_id")
    if not actor.belongs_to(org_id):
        raise Refusal(Code.ORGANIZATION_FORBIDDEN, "This token is not good for that organization.")


def require_scope(actor: Actor, scope: str) -> None:
    """Raise Refusal ``insufficient_scope`` where the actor's token lacks ``scope``."""
    if scope not in actor.scopes:
        raise Refusal(Code.INSUFFICIENT_SCOPE, f"This needs a token with the scope {scope}.")


def require_audit(actor: Actor, org_id: str | None) -> None:
    """Raise Refusal where the actor may not read the audit log of the organization; None is that of all of them.

    Admins read their organization's, services with ``credentials:write`` that of the organizations they are good for.
    """
    if org_id is not None:
        require_organization(actor, org_id)
    admin = org_id is not None and actor.is_admin_of(org_id)
    if not admin and CREDENTIALS_WRITE not in actor.scopes:
        detail = f"This is for admins of the organization, and services with the scope {CREDENTIALS_WRITE}."
        raise Refusal(Code.FORBIDDEN, detail)
