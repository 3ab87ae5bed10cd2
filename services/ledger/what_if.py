"""What own keys would have saved: of real use of the platform's keys, for each provider and each level of key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from services.domain.permissions import Caller
from services.domain.rate_card import RateCard
from services.domain.scope import Scope, ScopeType
from services.domain.usage import EventType
from services.domain.what_if import Used, with_own_key
from services.ledger.access import Visible

GROUPS = ("provider", "event_type", "priced_model", "rate_card", "reason", "team_id", "user_id")
"""By what the sums are that it is worked out of."""
ROWS_MAX = 100_000


class Levels(NamedTuple):
    """For whose keys somebody is told: only for those of which all entries may be seen."""

    organization: str | None
    teams: frozenset[str] | None
    """None: every team."""
    user: str | None

    def scopes(self, team_id: str | None, user_id: str) -> Iterable[Scope]:
        """The owners of keys that this use would have been served by."""
        if self.organization is not None:
            yield Scope(ScopeType.ORGANIZATION, self.organization)
        if team_id is not None and (self.teams is None or team_id in self.teams):
            yield Scope(ScopeType.TEAM, team_id)
        if user_id == self.user:
            yield Scope(ScopeType.PERSONAL, user_id)


def levels_of(caller: Caller, org_id: str, visible: Visible) -> Levels:
    """Everybody's own level where it is a person; that of the organization for whoever sees all of it."""
    return Levels(
        organization=org_id if visible.everything else None,
        teams=None if visible.everything else frozenset(visible.team_ids),
        user=caller.id if caller.is_person_of(org_id) else None,
    )


@dataclass
class _Tally:
    events: int = 0
    list_mc: int = 0
    charged_mc: int = 0
    own_key_mc: int = 0
    within_mc: int = 0
    by_reason: dict[str, int] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any], own_key_mc: int, within_mc: int) -> None:
        self.events += row["events"]
        self.list_mc += row["list_mc"]
        self.charged_mc += row["charged_mc"]
        self.own_key_mc += own_key_mc
        self.within_mc += within_mc
        saved = self.by_reason.get(row["reason"], 0) + row["charged_mc"] - own_key_mc
        self.by_reason[row["reason"]] = saved

    @property
    def saved_mc(self) -> int:
        return self.charged_mc - self.own_key_mc


def options(
    rows: Iterable[Mapping[str, Any]], levels: Levels, card_named: Callable[[str], RateCard]
) -> list[dict[str, Any]]:
    """For each provider and owner of a key what it would have saved, the largest saving first.

    ``rows`` are sums by ``GROUPS`` of what was charged to the platform's keys.
    """
    tallies: dict[tuple[str, Scope], _Tally] = {}
    for row in rows:
        own = with_own_key(_used(row), card_named(row["rate_card"]))
        if own is None or (row["events"], row["list_mc"]) == (0, 0):
            continue
        for scope in levels.scopes(row["team_id"], row["user_id"]):
            tallies.setdefault((row["provider"], scope), _Tally()).add(row, own.charged_mc, own.within_mc)
    order = sorted(tallies.items(), key=lambda item: (-item[1].saved_mc, item[0]))
    return [_option(provider, scope, tally) for (provider, scope), tally in order]


def _used(row: Mapping[str, Any]) -> Used:
    return Used(
        EventType(row["event_type"]),
        row["provider"],
        row["priced_model"],
        row["events"],
        row["quantity"],
        row["list_mc"],
    )


def _option(provider: str, scope: Scope, tally: _Tally) -> dict[str, Any]:
    return {
        "provider": provider,
        "scope": {"type": scope.type, "id": scope.id},
        "events": tally.events,
        "list_mc": tally.list_mc,
        "charged_mc": tally.charged_mc,
        "own_key_mc": tally.own_key_mc,
        "would_save_mc": tally.saved_mc,
        "within_mc": tally.within_mc,
        "by_reason": dict(sorted(tally.by_reason.items())),
    }
