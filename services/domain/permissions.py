"""Who may do what with whose key, and what one is told of it: one table for every service.

No directory of users or teams is asked; the token says who one is. People have a role in their organization; services
have scopes. A key that one may not know of is nowhere shown: not where keys are kept, and not where its use is billed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import NamedTuple

from services.domain.scope import Scope, ScopeType

EVERY_ORGANIZATION = "*"
CREDENTIALS_WRITE = "credentials:write"
CREDENTIALS_LEASE = "credentials:lease"
USAGE_WRITE = "usage:write"
LEDGER_READ = "ledger:read"
PLANS_WRITE = "plans:write"
REGISTRY_BACKDATE = "registry:backdate"
SCOPES = (CREDENTIALS_WRITE, CREDENTIALS_LEASE, USAGE_WRITE, LEDGER_READ, PLANS_WRITE, REGISTRY_BACKDATE)
"""All that a service can be let do."""

# Services that may ask which key applies to anybody, and so are told its id; but not what else there is.
_RESOLVING_SCOPES = frozenset({CREDENTIALS_WRITE, CREDENTIALS_LEASE, LEDGER_READ, USAGE_WRITE})


class Origin(NamedTuple):
    """Where a request came from, and what its sender says of it; for the audit log alone, and trusted for nothing."""

    client_address: str | None = None
    request_id: str | None = None
    reason: str | None = None


NOWHERE = Origin()


@dataclass(frozen=True)
class Caller:
    """Who asks, by the claims of a token that has been checked: ``id`` is its subject, ``teams`` are role by team."""

    id: str
    org_id: str
    role: str | None
    teams: Mapping[str, str]
    scopes: frozenset[str]
    origin: Origin = NOWHERE

    @property
    def is_everywhere(self) -> bool:
        """Whether the token is good for every organization."""
        return self.org_id == EVERY_ORGANIZATION

    @property
    def is_operator(self) -> bool:
        """Whether this is whoever runs the platform, an admin of every organization, for whom there are no rates."""
        return self.is_everywhere and self.role == "admin"

    def belongs_to(self, org_id: str) -> bool:
        """Whether the token is good for this organization at all."""
        return self.is_everywhere or self.org_id == org_id

    def is_person_of(self, org_id: str) -> bool:
        """Whether this is one of the organization's people, and not a service.

        A role without an organization of its own (``*``) is nobody's colleague: such a token has its scopes alone.
        """
        return self.role is not None and not self.is_everywhere and self.org_id == org_id

    def is_admin_of(self, org_id: str) -> bool:
        """Whether this is one of the organization's admins."""
        return self.is_person_of(org_id) and self.role == "admin"


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
    """What a caller is to a scope."""

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


def may(caller: Caller, action: Action, org_id: str, scope: Scope) -> bool:
    """Whether ``caller`` may do ``action`` with a key of ``scope`` in the organization."""
    return not _TABLE[scope.type][action].isdisjoint(parts(caller, org_id, scope))


def parts(caller: Caller, org_id: str, scope: Scope) -> frozenset[Part]:
    """What ``caller`` is to ``scope``; nothing at all in an organization that is not its own."""
    if not caller.belongs_to(org_id):
        return frozenset()
    found = {Part.SERVICE} if CREDENTIALS_WRITE in caller.scopes else set()
    if not caller.is_person_of(org_id):
        # Teams and users are of people: a service named like a user does not own that user's keys.
        return frozenset(found)
    found.add(Part.ORG_MEMBER)
    if caller.is_admin_of(org_id):
        found.add(Part.ORG_ADMIN)
    if scope.type is ScopeType.TEAM and scope.id in caller.teams:
        found.add(Part.TEAM_MEMBER)
        if caller.teams[scope.id] == "admin":
            found.add(Part.TEAM_ADMIN)
    if scope.type is ScopeType.PERSONAL and scope.id == caller.id:
        found.add(Part.OWNER)
    return frozenset(found)


class Sight(NamedTuple):
    """Which keys of an organization one may know of: what holds for one key, for whole lists."""

    everything: bool
    organization: bool
    teams: tuple[str, ...]
    user: str | None


def sight(caller: Caller, org_id: str) -> Sight:
    """The keys of the organization that ``caller`` may know of: what ``may(…, SEE, …)`` says."""
    person = caller.is_person_of(org_id)
    managers = parts(caller, org_id, Scope(ScopeType.ORGANIZATION, org_id)) & _ORG_MANAGERS
    return Sight(
        everything=bool(managers),
        organization=person,
        teams=tuple(caller.teams) if person else (),
        user=caller.id if person else None,
    )


def sight_of_applied(caller: Caller, org_id: str) -> Sight:
    """The same of keys that were applied to a use which ``caller`` is shown: what ``told(…, applied=True)`` says."""
    found = sight(caller, org_id)
    return found._replace(everything=found.everything or _resolves_for_all(caller, org_id))


class Told(IntEnum):
    """How much one is told of a key; each includes those before it."""

    NOTHING = auto()
    ID = auto()
    """Its id, and not since when it is active."""
    TIMES = auto()
    HINT = auto()


def told(caller: Caller, org_id: str, scope: Scope, *, applied: bool) -> Told:
    """What ``caller`` is told of a key of ``scope``; ``applied``: of one that a use was resolved to."""
    if may(caller, Action.SEE_HINT, org_id, scope):
        return Told.HINT
    if may(caller, Action.SEE, org_id, scope):
        return Told.TIMES
    return Told.ID if applied and _resolves_for_all(caller, org_id) else Told.NOTHING


def may_read_audit(caller: Caller, org_id: str | None) -> bool:
    """Whether ``caller`` may read who did what with the organization's keys; None: with those of all of them.

    Admins read their organization's, services with ``credentials:write`` that of the organizations they are good for.
    """
    if org_id is not None and caller.is_admin_of(org_id):
        return True
    return CREDENTIALS_WRITE in caller.scopes and (org_id is None or caller.belongs_to(org_id))


def may_resolve(caller: Caller, org_id: str, team_id: str | None, user_id: str) -> bool:
    """Whether ``caller`` may ask which key applies to this user, in this team."""
    if _resolves_for_all(caller, org_id) or caller.is_admin_of(org_id):
        return True
    in_own_space = user_id == caller.id and (team_id is None or team_id in caller.teams)
    return in_own_space and caller.is_person_of(org_id)


def _resolves_for_all(caller: Caller, org_id: str) -> bool:
    return caller.belongs_to(org_id) and not caller.scopes.isdisjoint(_RESOLVING_SCOPES)
