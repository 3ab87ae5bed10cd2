"""Who may see which entries (invariant I8): a customer sees only what its scope allows."""

from __future__ import annotations

from typing import NamedTuple

from services.domain.permissions import CREDENTIALS_LEASE, LEDGER_READ, USAGE_WRITE, Caller
from services.ledger.refusals import Code
from services.runtime.refusals import Refusal

# Whoever runs the customer's work may ask what it will cost.
_MAY_QUOTE = frozenset({LEDGER_READ, USAGE_WRITE, CREDENTIALS_LEASE})


class Visible(NamedTuple):
    """The entries of one organization that somebody may see: all, or those of one person and of that person's teams."""

    everything: bool
    user_id: str = ""
    team_ids: tuple[str, ...] = ()

    def shows(self, user_id: str, team_id: str | None) -> bool:
        """Whether an entry of this user and team is among them."""
        return self.everything or user_id == self.user_id or (team_id is not None and team_id in self.team_ids)


_EVERYTHING = Visible(everything=True)


def require_scope(caller: Caller, scope: str) -> None:
    """Raise 403 ``insufficient_scope`` where the token lacks ``scope``."""
    if scope not in caller.scopes:
        raise Refusal(Code.INSUFFICIENT_SCOPE, f"This needs a token with the scope {scope}.")


def require_organization(caller: Caller, org_id: str) -> None:
    """Raise 403 ``organization_forbidden`` where the token is not good for the organization."""
    if not caller.belongs_to(org_id):
        raise Refusal(Code.ORGANIZATION_FORBIDDEN, "This token is not good for that organization.")


def visible_in(caller: Caller, org_id: str) -> Visible:
    """Which entries of an organization the caller may see. Raises 403 where that is nothing at all.

    Services need the scope ledger:read. Of the organization's people, admins see everything, members their own
    entries and their teams'.
    """
    require_organization(caller, org_id)
    if LEDGER_READ in caller.scopes:
        return _EVERYTHING
    if not caller.is_person_of(org_id):
        raise Refusal(Code.INSUFFICIENT_SCOPE, f"This needs a token with the scope {LEDGER_READ}.")
    return _EVERYTHING if caller.is_admin_of(org_id) else Visible(False, caller.id, tuple(caller.teams))  # noqa: FBT003


def require_quote(caller: Caller, org_id: str, user_id: str, team_id: str | None) -> None:
    """Raise 403 where the caller may not ask which key this user would use: people ask for what they may see."""
    require_organization(caller, org_id)
    if caller.scopes & _MAY_QUOTE:
        return
    visible = visible_in(caller, org_id)
    in_own_space = user_id == caller.id and (team_id is None or team_id in caller.teams)
    if not (visible.everything or in_own_space):
        raise Refusal(Code.QUOTE_FORBIDDEN, "Members ask for themselves, in their own space and teams.")
