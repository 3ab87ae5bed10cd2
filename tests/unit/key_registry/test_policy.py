"""Who may do what with whose key, role by role."""

from __future__ import annotations

import pytest

from services.domain.scope import Scope, ScopeType
from services.key_registry.policy import Action, Actor, may, may_resolve, sight

ORG = Scope(ScopeType.ORGANIZATION, "acme")
TEAM = Scope(ScopeType.TEAM, "growth")
OWN = Scope(ScopeType.PERSONAL, "uma")


def person(user: str = "uma", role: str = "member", org: str = "acme", **teams: str) -> Actor:
    return Actor(user, org, role, teams, frozenset())


def service(*scopes: str, org: str = "*") -> Actor:
    return Actor("uma", org, None, {"growth": "admin"}, frozenset(scopes))


WHO = {
    "admin": person("ada", "admin"),
    "owner": person(),
    "member": person("bob"),
    "team admin": person("lea", growth="admin"),
    "team member": person("mia", growth="member"),
    "writer": service("credentials:write"),
    "writer of acme": service("credentials:write", org="acme"),
    "runner": service("credentials:lease", "usage:write"),
    "stranger": person(org="other", role="admin", growth="admin"),
    "writer elsewhere": service("credentials:write", org="other"),
}
WRITERS = {"writer", "writer of acme"}
PEOPLE = {"admin", "owner", "member", "team admin", "team member"}
IN_TEAM = {"team admin", "team member"}

ALLOWED = {
    (ORG, Action.ADD): WRITERS | {"admin"},
    (ORG, Action.SEE): WRITERS | PEOPLE,
    (ORG, Action.SEE_HINT): WRITERS | PEOPLE,
    (ORG, Action.RELABEL): WRITERS | {"admin"},
    (ORG, Action.ENABLE): WRITERS | {"admin"},
    (ORG, Action.DISABLE): WRITERS | {"admin"},
    (ORG, Action.ROTATE): WRITERS | {"admin"},
    (ORG, Action.VERIFY): WRITERS | {"admin"},
    (ORG, Action.REVOKE): WRITERS | {"admin"},
    (TEAM, Action.ADD): WRITERS | {"admin", "team admin"},
    (TEAM, Action.SEE): WRITERS | {"admin"} | IN_TEAM,
    (TEAM, Action.SEE_HINT): WRITERS | {"admin"} | IN_TEAM,
    (TEAM, Action.RELABEL): WRITERS | {"admin", "team admin"},
    (TEAM, Action.ENABLE): WRITERS | {"admin", "team admin"},
    (TEAM, Action.DISABLE): WRITERS | {"admin", "team admin"},
    (TEAM, Action.ROTATE): WRITERS | {"admin", "team admin"},
    (TEAM, Action.VERIFY): WRITERS | {"admin", "team admin"},
    (TEAM, Action.REVOKE): WRITERS | {"admin", "team admin"},
    (OWN, Action.ADD): WRITERS | {"owner"},
    (OWN, Action.SEE): WRITERS | {"owner", "admin"},
    (OWN, Action.SEE_HINT): WRITERS | {"owner"},
    (OWN, Action.RELABEL): WRITERS | {"owner"},
    (OWN, Action.ENABLE): WRITERS | {"owner"},
    (OWN, Action.DISABLE): WRITERS | {"owner"},
    (OWN, Action.ROTATE): WRITERS | {"owner"},
    (OWN, Action.VERIFY): WRITERS | {"owner"},
    (OWN, Action.REVOKE): WRITERS | {"owner", "admin"},
}


@pytest.mark.parametrize("scope", [ORG, TEAM, OWN], ids=lambda scope: scope.type.value)
@pytest.mark.parametrize("action", Action)
def test_the_whole_table(scope: Scope, action: Action) -> None:
    assert {name for name, actor in WHO.items() if may(actor, action, "acme", scope)} == ALLOWED[scope, action]


@pytest.mark.parametrize("name", WHO)
def test_lists_show_what_single_views_show(name: str) -> None:
    actor = WHO[name]
    seen = sight(actor, "acme")
    listed = {
        ORG: seen.everything or seen.organization,
        TEAM: seen.everything or TEAM.id in seen.teams,
        OWN: seen.everything or seen.user == OWN.id,
    }
    assert listed == {scope: may(actor, Action.SEE, "acme", scope) for scope in (ORG, TEAM, OWN)}


def test_whose_keys_one_may_ask_for() -> None:
    def asking(team: str | None, user: str) -> set[str]:
        return {name for name, actor in WHO.items() if may_resolve(actor, "acme", team, user)}

    services = WRITERS | {"runner"}
    assert asking(None, "uma") == services | {"admin", "owner"}
    assert asking("growth", "uma") == services | {"admin"}
    assert asking("growth", "mia") == services | {"admin", "team member"}
