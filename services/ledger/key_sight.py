"""What a caller is told of the keys behind entries, receipts and quotes: what the registry tells it, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from services.books.tables import VIEW
from services.domain.directory import Credential
from services.domain.permissions import Caller, Sight, Told, sight_of_applied, told
from services.domain.scope import Scope, ScopeType

_OWNERS = {ScopeType.ORGANIZATION: "org_id", ScopeType.TEAM: "team_id", ScopeType.PERSONAL: "user_id"}


class KeySight(NamedTuple):
    """One caller's view of the keys of one organization."""

    caller: Caller
    org_id: str

    @property
    def of_entries(self) -> Sight:
        """Of which keys the ids are shown in entries, where each was applied to a use."""
        return sight_of_applied(self.caller, self.org_id)

    def told(self, scope: Scope, *, applied: bool) -> Told:
        """What the caller is told of a key of ``scope``; ``applied``: of one that a use was resolved to."""
        return told(self.caller, self.org_id, scope, applied=applied)

    def told_of_claimed(self, credential: Credential | None, *, applied: bool) -> Told:
        """The same of the key that an event names; None where it is none of the organization's.

        Such an id is what the event said, and nobody's key here: whoever sees all keys is told it.
        """
        if credential is None or credential.org_id != self.org_id:
            return Told.ID if self.of_entries.everything else Told.NOTHING
        return self.told(credential.scope, applied=applied)

    def entry(self, row: Mapping[Any, Any]) -> dict[str, Any]:
        """The columns of the view ``ledger.entries``, the key's id only where the caller may know of that key."""
        # As the view does: the table leaves out the name that was reported.
        shown = {name: row[name] for name in VIEW} | {"priced_model": row["priced_model"] or row["model"]}
        return shown if self._shows_key_of(row) else shown | {"credential_id": None}

    def id_of_applied(self, credential: Credential | None) -> str | None:
        """The id of a key that a use was resolved to, where the caller may know it."""
        if credential is None or self.told(credential.scope, applied=True) < Told.ID:
            return None
        return credential.credential_id

    def _shows_key_of(self, row: Mapping[Any, Any]) -> bool:
        # A key is applied within the event's own scopes alone, so its owner stands in the entry.
        if row["byok_scope"] is None:
            return False
        level = ScopeType(row["byok_scope"])
        return self.told(Scope(level, row[_OWNERS[level]]), applied=True) >= Told.ID
