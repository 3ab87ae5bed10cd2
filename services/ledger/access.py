"""Who may see what (invariant I8): a customer sees only what its scope allows."""

from __future__ import annotations

from typing import NamedTuple

from services.ledger.refusals import Refusal

LEDGER_READ = "ledger:read"
USAGE_WRITE = "usage:write"
# Whoever runs the customer's work may ask what it will cost.
_MAY_QUOTE = frozenset({LEDGER_READ, USAGE_WRITE, "credentials:lease"})
EVERY_ORGANIZATION = "*"


class Visible(NamedTuple):
    """The entries of one organization that somebody may see: all, or those of one person and of that person's teams."""

    everything: bool
    user_id: str = ""
    team_ids: tuple[str, ...] = ()

    def shows(self, user_id: str, team_id: str | None) -> bool:
        """Whether an entry of this user and team is among them."""
        return self.everything or user_id == self.user_id or (team_id is not None and team_id in self.team_ids)


_EVERYTHING = Visible(everything=True)


class Viewer(NamedTuple):
    """The caller, as far as the ledger's rules need to know it: the claims of a token that has been checked."""

    user_id: str
    org_id: str
    is_admin: bool
    is_person: bool
    team_ids: tuple[str, ...]
    scopes: frozenset[str]

    def require_scope(self, scope: str) -> None:
        """Raise 403 ``insufficient_scope`` where the token lacks ``scope``."""
        if scope not in self.scopes:
            raise Refusal(403, "insufficient_scope", f"This needs a token with the scope {scope}.")

    def good_for(self, org_id: str) -> bool:
        """Whether the token is good for this organization."""
        return self.org_id in (EVERY_ORGANIZATION, org_id)

    def require_organization(self, org_id: str) -> None:
        """Raise 403 ``organization_forbidden`` where the token is not good for the organization."""
        if not self.good_for(org_id):
            raise Refusal(403, "organization_forbidden", "This token is not good for that organization.")

    def visible_in(self, org_id: str) -> Visible:
        """What the caller may see of an organization. Raises 403 where that is nothing at all.

        Services need the scope ledger:read. Of the organization's people, admins see everything, members their own
        entries and their teams'. A role without an organization of its own (``*``) is nobody's colleague.
        """
        self.require_organization(org_id)
        if LEDGER_READ in self.scopes:
            return _EVERYTHING
        if not self.is_person or self.org_id == EVERY_ORGANIZATION:
            raise Refusal(403, "insufficient_scope", f"This needs a token with the scope {LEDGER_READ}.")
        return _EVERYTHING if self.is_admin else Visible(False, self.user_id, self.team_ids)  # noqa: FBT003

    def require_quote(self, org_id: str, user_id: str, team_id: str | None) -> None:
        """Raise 403 where the caller may not ask which key this user would use: people ask for what they may see."""
        self.require_organization(org_id)
        if self.scopes & _MAY_QUOTE:
            return
        visible = self.visible_in(org_id)
        in_own_space = user_id == self.user_id and (team_id is None or team_id in self.team_ids)
        if not (visible.everything or in_own_space):
            raise Refusal(403, "quote_forbidden", "Members ask for themselves, in their own space and teams.")
