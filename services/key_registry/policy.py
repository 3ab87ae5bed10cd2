"""Who may do what with whose key: one table. No directory of users or teams is asked; the token says who one is."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

from services.domain.scope import Scope, ScopeType
from services.key_registry.errors import Code, Refusal

EVERY_ORGANIZATION = "*"
WRITE = "credentials:write"
LEASE = "credentials:lease"
PLANS = "plans:write"
BACKDATE = "registry:backdate"

# Services that may ask which key applies to anybody.
_RESOLVING_SCOPES = frozenset({WRITE, LEASE, "ledger:read", "usage:write"})


class Origin(NamedTuple):
    """Where a request came from, and what its sender says of it; for the audit log alone, and trusted for nothing."""

    client_address: str | None = None
    request_id: str | None = None
    reason: str | None = None


class Actor(NamedTuple):
    """Who asks. People have a role in their organization; services have scopes."""

    id: str
    org_id: str
    role: str | None
    teams: Mapping[str, str]
    scopes: frozenset[str]
    origin: Origin = Origin()

    @property
    def is_everywhere(self) -> bool:
        """Whether the actor's token is good for every organization."""
        return self.org_id == EVERY_ORGANIZATION

    def belongs_to(self, org_id: str) -> bool:
        """Whether the actor may act in this organization at all."""
        return self.is_everywhere or self.org_id == org_id


class Action(Enum):
    """What one can want to do with a credential."""

    ADD = auto()
    SEE = auto()
    SEE_HINT = auto()
    """To see the hint and the label, and not only that there is a key."""
    RELABEL = auto()
    ENABLE = auto()
    DISABLE = auto()
    ROTATE = auto()
    """To put another key in its place, and to take that back."""
    VERIFY = auto()
    REVOKE = auto()


class Part(Enum):
    """What an actor is to a scope."""

    SERVICE = auto()
    ORG_ADMIN = auto()
    ORG_MEMBER = auto()
    TEAM_ADMIN = auto()
    TEAM_MEMBER = auto()
    OWNER = auto()


_ORG_MANAGERS = frozenset({Part.SERVICE, Part.ORG_ADMIN})
_ORG_READERS = _ORG_MANAGERS | {Part.ORG_MEMBER}
_TEAM_MANAGERS = _ORG_MANAGERS | {Part.TEAM_ADMIN}
_TEAM_READERS = _TEAM_MANAGERS | {Part.TEAM_MEMBER}
_HOLDERS = frozenset({Part.SERVICE, Part.OWNER})
# An admin of the organization knows that a member has a key, and can end it, but not more.
_HOLDERS_AND_ADMINS = _HOLDERS | {Part.ORG_ADMIN}

_TABLE: Mapping[ScopeType, Mapping[Action, frozenset[Part]]] = {
    ScopeType.ORGANIZATION: {
        Action.ADD: _ORG_MANAGERS,
        Action.SEE: _ORG_READERS,
        Action.SEE_HINT: _ORG_READERS,
        Action.RELABEL: _ORG_MANAGERS,
        Action.ENABLE: _ORG_MANAGERS,
        Action.DISABLE: _ORG_MANAGERS,
        Action.ROTATE: _ORG_MANAGERS,
        Action.VERIFY: _ORG_MANAGERS,
        Action.REVOKE: _ORG_MANAGERS,
    },
    ScopeType.TEAM: {
        Action.ADD: _TEAM_MANAGERS,
        Action.SEE: _TEAM_READERS,
        Action.SEE_HINT: _TEAM_READERS,
        Action.RELABEL: _TEAM_MANAGERS,
        Action.ENABLE: _TEAM_MANAGERS,
        Action.DISABLE: _TEAM_MANAGERS,
        Action.ROTATE: _TEAM_MANAGERS,
        Action.VERIFY: _TEAM_MANAGERS,
        Action.REVOKE: _TEAM_MANAGERS,
    },
    ScopeType.PERSONAL: {
        Action.ADD: _HOLDERS,
        Action.SEE: _HOLDERS_AND_ADMINS,
        Action.SEE_HINT: _HOLDERS,
        Action.RELABEL: _HOLDERS,
        Action.ENABLE: _HOLDERS,
        Action.DISABLE: _HOLDERS,
        Action.ROTATE: _HOLDERS,
        Action.VERIFY: _HOLDERS,
        Action.REVOKE: _HOLDERS_AND_ADMINS,
    },
}


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
    if actor.role != "admin" and WRITE not in actor.scopes:
        raise Refusal(Code.FORBIDDEN, f"This is for admins of the organization, and services with the scope {WRITE}.")


def may(actor: Actor, action: Action, org_id: str, scope: Scope) -> bool:
    """Whether ``actor`` may do ``action`` with a key of ``scope`` in the organization."""
    return not _TABLE[scope.type][action].isdisjoint(parts(actor, org_id, scope))


def parts(actor: Actor, org_id: str, scope: Scope) -> frozenset[Part]:
    """What ``actor`` is to ``scope``; nothing at all in an organization that is not its own."""
    if not actor.belongs_to(org_id):
        return frozenset()
    found = {Part.SERVICE} if WRITE in actor.scopes else set()
    if actor.role is None:
        # Teams and users are of people: a service named like a user does not own that user's keys.
        return frozenset(found)
    found.add(Part.ORG_MEMBER)
    if actor.role == "admin":
        found.add(Part.ORG_ADMIN)
    if scope.type is ScopeType.TEAM and scope.id in actor.teams:
        found.add(Part.TEAM_MEMBER)
        if actor.teams[scope.id] == "admin":
            found.add(Part.TEAM_ADMIN)
    if scope.type is ScopeType.PERSONAL and scope.id == actor.id:
        found.add(Part.OWNER)
    return frozenset(found)


class Sight(NamedTuple):
    """Which credentials of an organization an actor may know of; what ``may(…, SEE, …)`` says, for whole lists."""

    everything: bool
    organization: bool
    teams: tuple[str, ...]
    user: str | None


def sight(actor: Actor, org_id: str) -> Sight:
    """What ``actor`` sees of the organization's credentials."""
    person = actor.belongs_to(org_id) and actor.role is not None
    managers = parts(actor, org_id, Scope(ScopeType.ORGANIZATION, org_id)) & _ORG_MANAGERS
    return Sight(
        everything=bool(managers),
        organization=person,
        teams=tuple(actor.teams) if person else (),
        user=actor.id if person else None,
    )


def may_resolve(actor: Actor, org_id: str, team_id: str | None, user_id: str) -> bool:
    """Whether ``actor`` may ask which key applies to this user, in this team."""
    if not actor.belongs_to(org_id):
        return False
    if actor.role == "admin" or not actor.scopes.isdisjoint(_RESOLVING_SCOPES):
        return True
    return actor.role is not None and user_id == actor.id and (team_id is None or team_id in actor.teams)
