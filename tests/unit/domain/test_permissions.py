"""Who may do what with whose key, and is told what of it, role by role."""

from __future__ import annotations

import pytest

from services.domain.permissions import (
    Action,
    Caller,
    Sight,
    Told,
    may,
    may_read_audit,
    may_resolve,
    sight,
    sight_of_applied,
    told,
)
from services.domain.scope import Scope, ScopeType

ORG = Scope(ScopeType.ORGANIZATION, "acme")
TEAM = Scope(ScopeType.TEAM, "growth")
OWN = Scope(ScopeType.PERSONAL, "uma")


def person(user: str = "uma", role: str = "member", org: str = "acme", **teams: str) -> Caller:
    return Caller(user, org, role, teams, frozenset())


def service(*scopes: str, org: str = "*") -> Caller:
    return Caller("uma", org, None, {"growth": "admin"}, frozenset(scopes))


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
    "reader": service("ledger:read"),
    "reader elsewhere": service("ledger:read", org="other"),
    "planner": service("plans:write", "registry:backdate"),
    # A role is one in an organization: with *, whatever it is called, it is in none.
    "admin of none": person("uma", "admin", "*", growth="admin"),
    "member of none": person("uma", "member", "*", growth="member"),
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
    assert {name for name, who in WHO.items() if may(who, action, "acme", scope)} == ALLOWED[scope, action]


@pytest.mark.parametrize("name", WHO)
def test_lists_show_what_single_views_show(name: str) -> None:
    who = WHO[name]
    assert _listed(sight(who, "acme")) == {scope: may(who, Action.SEE, "acme", scope) for scope in (ORG, TEAM, OWN)}
    applied = {scope: told(who, "acme", scope, applied=True) >= Told.ID for scope in (ORG, TEAM, OWN)}
    assert _listed(sight_of_applied(who, "acme")) == applied


def _listed(seen: Sight) -> dict[Scope, bool]:
    return {
        ORG: seen.everything or seen.organization,
        TEAM: seen.everything or TEAM.id in seen.teams,
        OWN: seen.everything or seen.user == OWN.id,
    }


# What is told of a key of each scope; "id" of one that was applied, and nothing of others.
TOLD = {
    "writer": "hint hint hint",
    "writer of acme": "hint hint hint",
    "admin": "hint hint times",
    "owner": "hint - hint",
    "member": "hint - -",
    "team admin": "hint hint -",
    "team member": "hint hint -",
    "runner": "id id id",
    "reader": "id id id",
}


@pytest.mark.parametrize("name", WHO)
def test_what_one_is_told_of_a_key(name: str) -> None:
    for scope, expected in zip((ORG, TEAM, OWN), TOLD.get(name, "- - -").split(), strict=True):
        applied, other = (told(WHO[name], "acme", scope, applied=flag) for flag in (True, False))
        known = "NOTHING" if expected == "-" else expected.upper()
        assert applied is Told[known]
        assert other is (Told.NOTHING if applied is Told.ID else applied)


def test_whose_keys_one_may_ask_for() -> None:
    def asking(team: str | None, user: str) -> set[str]:
        return {name for name, who in WHO.items() if may_resolve(who, "acme", team, user)}

    services = WRITERS | {"runner", "reader"}
    assert asking(None, "uma") == services | {"admin", "owner"}
    assert asking("growth", "uma") == services | {"admin"}
    assert asking("growth", "mia") == services | {"admin", "team member"}


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        (person("ada", "admin", org="*"), True),
        (person("ada", "admin"), False),
        (person("ada", org="*"), False),
        (service("ledger:read"), False),
    ],
)
def test_an_admin_of_every_organization_is_an_operator(who: Caller, expected: bool) -> None:
    assert who.is_operator is expected


@pytest.mark.parametrize(
    ("who", "of_acme", "of_another", "of_all"),
    [
        (WHO["admin"], True, False, False),
        (WHO["member"], False, False, False),
        (WHO["team admin"], False, False, False),
        (WHO["writer"], True, True, True),
        (WHO["writer of acme"], True, False, True),
        (service("credentials:lease"), False, False, False),
    ],
)
def test_who_may_read_the_audit_log(who: Caller, of_acme: bool, of_another: bool, of_all: bool) -> None:
    asked = [may_read_audit(who, org_id) for org_id in ("acme", "another", None)]
    assert asked == [of_acme, of_another, of_all]
