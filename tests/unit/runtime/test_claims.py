"""From a provider's claims to ours: what the table names, and nothing else, whatever a provider sends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.permissions import SCOPES
from services.runtime.claims import GROUPS_MAX, ClaimsRefusedError, ClaimsTable, claims_table, our_claims
from services.runtime.settings import SettingsError

ORG = {"claim": "org"}
WHOLE = {
    "subject": "oid",
    "organization": {"claim": "tid", "names": {"8c1f": "acme", "77aa": "*"}},
    "groups": ["realm", "roles"],
    "admins": ["admins"],
    "members": ["people"],
    "teams": [
        {"group": "g-growth", "team": "growth"},
        {"group": "g-growth-leads", "team": "growth", "role": "admin"},
        {"pattern": "team/(?P<team>[a-z]+)"},
    ],
    "scopes": {"billing": ["ledger:read"]},
    "scope": "scp",
}


def ours(table: dict[str, Any], **claims: Any) -> dict[str, Any]:
    return our_claims(ClaimsTable.model_validate(table), {"sub": "ann", **claims})


def whole(*groups: str, **claims: Any) -> dict[str, Any]:
    return ours(WHOLE, **({"oid": "ann", "tid": "8c1f", "realm": {"roles": list(groups)}} | claims))


@pytest.mark.parametrize(
    ("groups", "claims", "expected"),
    [
        (["people"], {}, {"org_role": "member"}),
        (["admins"], {}, {"org_role": "admin"}),
        (["admins", "people"], {}, {"org_role": "admin"}),
        ([], {}, {}),
        (["strangers", "admins2", "Admins"], {}, {}),
        (["people", "g-growth"], {}, {"org_role": "member", "teams": {"growth": "member"}}),
        (["people", "g-growth", "g-growth-leads"], {}, {"org_role": "member", "teams": {"growth": "admin"}}),
        (["people", "team/sales", "xteam/no", "team/No"], {}, {"org_role": "member", "teams": {"sales": "member"}}),
        # Whoever is no member is in no team.
        (["g-growth-leads"], {}, {}),
        (["billing"], {}, {"scope": "ledger:read"}),
        (["ledger:read", "people"], {}, {"org_role": "member"}),
        ([], {"scp": "openid usage:write usage:write"}, {"scope": "usage:write"}),
        ([], {"scp": ["credentials:lease", 7, "admin"]}, {"scope": "credentials:lease"}),
        ([], {"scope": "ledger:read", "org_role": "admin", "teams": {"growth": "admin"}}, {}),
        (["people"], {"tid": "77aa"}, {"org_role": "member", "org_id": "*"}),
    ],
)
def test_a_row_of_the_table(groups: list[str], claims: dict[str, Any], expected: dict[str, Any]) -> None:
    assert whole(*groups, **claims) == {"sub": "ann", "org_id": "acme", "teams": {}, "scope": ""} | expected


@pytest.mark.parametrize(
    ("rule", "value", "org"),
    [
        ({"always": "acme"}, None, "acme"),
        (ORG, "acme", "acme"),
        (ORG, ["acme"], "acme"),
        (ORG, ["acme", "acme"], "acme"),
        (ORG, {"acme": {"id": 7}}, "acme"),
        ({"claim": "org", "names": {"x": "acme", "y": "acme"}}, ["x", "y", "z"], "acme"),
        ({"claim": "org", "pattern": "/customers/(?P<org>[^/]+)"}, ["/customers/acme", "/staff"], "acme"),
        ({"claim": "org", "pattern": "c-(?P<org>.+)", "names": {"1": "acme"}}, "c-1", "acme"),
    ],
)
def test_whose_somebody_is(rule: dict[str, Any], value: Any, org: str) -> None:
    assert ours({"organization": rule}, org=value)["org_id"] == org


@pytest.mark.parametrize(
    ("rule", "value", "says"),
    [
        (ORG, None, "no organization"),
        (ORG, "", "no organization"),
        (ORG, [], "no organization"),
        (ORG, 7, "no organization"),
        # What stands for all organizations is nobody's whom our own table does not name.
        (ORG, "*", "no organization"),
        ({"claim": "org", "pattern": "(?P<org>.*)"}, "*", "no organization"),
        ({"claim": "org", "names": {"x": "acme"}}, "acme", "no organization"),
        (ORG, ["acme", "other"], "several organizations"),
    ],
)
def test_whose_organization_is_not_certain_is_refused_in_a_sentence(
    rule: dict[str, Any], value: Any, says: str
) -> None:
    with pytest.raises(ClaimsRefusedError, match=says) as refused:
        ours({"organization": rule}, org=value)
    assert "acme" not in str(refused.value)


def test_groups_that_are_not_all_told_are_refused_and_not_taken_for_none() -> None:
    with pytest.raises(ClaimsRefusedError, match="more groups than"):
        whole(_claim_names={"groups": "src1"})
    with pytest.raises(ClaimsRefusedError, match=f"more than {GROUPS_MAX}"):
        whole(*map(str, range(GROUPS_MAX + 1)))
    with pytest.raises(ClaimsRefusedError, match="who you are"):
        whole(oid=None)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.sampled_from(["admins", "people", "8c1f", "*"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("oid", "tid", "realm", "scp", "org_id", "teams"), ANYTHING)))
def test_whatever_a_provider_sends_nobody_is_more_than_the_table_says(claims: dict[str, Any]) -> None:
    try:
        found = our_claims(ClaimsTable.model_validate(WHOLE), claims)
    except ClaimsRefusedError:
        return
    assert found["org_id"] == {"8c1f": "acme", "77aa": "*"}[_only(claims["tid"])]
    assert set(found["scope"].split()) <= set(SCOPES)
    roles = claims.get("realm", {}).get("roles") if isinstance(claims.get("realm"), dict) else None
    named = {roles} if isinstance(roles, str) else set(filter(lambda each: isinstance(each, str), roles or ()))
    assert (found.get("org_role") == "admin") == ("admins" in named)
    assert not found["teams"] or found.get("org_role")


def _only(value: Any) -> str:
    (known,) = {each for each in ([value] if isinstance(value, str) else value) if each in ("8c1f", "77aa")}
    return str(known)


@given(st.lists(st.sampled_from(["people", "g-growth", "g-growth-leads", "team/growth", "billing", "zzz"]), max_size=8))
def test_neither_the_order_of_groups_nor_those_that_are_named_nowhere_matter(groups: list[str]) -> None:
    assert whole(*groups) == whole(*sorted(groups, reverse=True), "unknown")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({}, "organization: Field required"),
        ({"organization": {}}, "organization: has either always or claim"),
        ({"organization": {"always": "a", "claim": "b"}}, "either always or claim"),
        ({"organization": {"claim": "b", "pattern": "("}}, "organization.pattern: is no regular expression"),
        ({"organization": {"claim": "b", "pattern": "x"}}, "without the group"),
        ({"organization": ORG, "admins": ["a"]}, "groups has to name their claim"),
        ({"organization": ORG, "groups": "g", "scopes": {"x": ["everything"]}}, "scopes.x.0: is no scope; there are"),
        ({"organization": ORG, "groups": "g", "teams": [{"team": "x"}]}, "teams.0: has either group or pattern"),
        ({"organization": ORG, "groups": "g", "teams": [{"group": "x", "pattern": "y"}]}, "either group or pattern"),
        ({"organization": ORG, "groups": "g", "teams": [{"pattern": "(?P<t>y)"}]}, "without the group"),
        ({"organization": ORG, "grups": "g"}, "grups: Extra inputs"),
    ],
)
def test_what_is_wrong_with_the_file_is_told_by_its_place(tmp_path: Path, table: dict[str, Any], says: str) -> None:
    file = tmp_path / "claims.json"
    file.write_text(json.dumps(table))
    with pytest.raises(SettingsError, match="BYOK_JWT_CLAIMS_FILE") as told:
        claims_table(file)
    assert says in str(told.value)


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"BYOK_JWT_CLAIMS_FILE.*No such file"):
        claims_table(tmp_path / "none")
    (tmp_path / "text").write_text("no table")
    with pytest.raises(SettingsError, match="Invalid JSON"):
        claims_table(tmp_path / "text")
