"""The registry's guards: what one may not do (services/domain/permissions.py) as refusals that a caller is told."""

from __future__ import annotations

from services.domain.permissions import CREDENTIALS_WRITE, EVERY_ORGANIZATION, Caller, may_read_audit
from services.key_registry.rules.refusals import Code
from services.runtime.refusals import Refusal


def require_organization(caller: Caller, org_id: str) -> None:
    """Raise Refusal ``organization_forbidden`` where the caller's token is not good for the organization.

    No organization can be called ``*``: a token of its own would be good for every organization.
    """
    if org_id == EVERY_ORGANIZATION:
        raise Refusal(Code.INVALID_REQUEST, "* stands for every organization; it is none.", field="org_id")
    if not caller.belongs_to(org_id):
        raise Refusal(Code.ORGANIZATION_FORBIDDEN, "This token is not good for that organization.")


def require_scope(caller: Caller, scope: str) -> None:
    """Raise Refusal ``insufficient_scope`` where the caller's token lacks ``scope``."""
    if scope not in caller.scopes:
        raise Refusal(Code.INSUFFICIENT_SCOPE, f"This needs a token with the scope {scope}.")


def require_audit(caller: Caller, org_id: str | None) -> None:
    """Raise Refusal where the caller may not read the audit log of the organization; None is that of all of them."""
    if org_id is not None:
        require_organization(caller, org_id)
    if not may_read_audit(caller, org_id):
        detail = f"This is for admins of the organization, and services with the scope {CREDENTIALS_WRITE}."
        raise Refusal(Code.FORBIDDEN, detail)
