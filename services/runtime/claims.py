"""From an identity provider's claims to ours, by a table that an operator writes (``BYOK_JWT_CLAIMS_FILE``).

What no line of the table names counts for nothing: no group makes anybody an admin, a member of a team or a holder of a
scope by its name alone. Whose organization is not certain is nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.fields import Id
from services.domain.permissions import SCOPES
from services.runtime.settings import SettingsError, unusable

FILE_BYTES_MAX = 1024 * 1024
GROUPS_MAX = 2_000
_VALUE_CHARACTERS_MAX = 512
_EVERYBODY: Final = "*"

Role = Literal["admin", "member"]


class ClaimsRefusedError(ValueError):
    """The claims make nobody of ours; the message is one sentence for whoever signs in, and repeats no value."""


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return text


def _scope(name: str) -> str:
    if name not in SCOPES:
        raise ValueError(f"is no scope; there are {', '.join(SCOPES)}")
    return name


Pattern = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_pattern)]
"""A regular expression that has to match all of a value."""
Place = Annotated[tuple[str, ...] | str, Field(min_length=1)]
"""The name of a claim, or the names that lead to one within others: ``["realm_access", "roles"]``."""
Scope = Annotated[str, AfterValidator(_scope)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OrganizationRule(_Part):
    """Whose somebody is: always the same organization, or what a claim says."""

    always: Id | None = None
    claim: Place | None = None
    names: Mapping[str, Id] | None = None
    """The claim's values to our ids; other values count for nothing. None: the values are our ids."""
    pattern: Pattern | None = None
    """Of the claim's values only these count, each with its group ``org``."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.always is None) == (self.claim is None):
            raise ValueError("has either always or claim")
        if self.always is not None and (self.names is not None or self.pattern is not None):
            raise ValueError("has names or pattern with claim alone")
        if self.pattern is not None and "org" not in re.compile(self.pattern).groupindex:
            raise ValueError("has a pattern without the group (?P<org>…)")
        return self


class TeamRule(_Part):
    """Which groups make somebody what in a team: one by its name, or all of a pattern with its group ``team``."""

    group: str | None = None
    team: Id | None = None
    pattern: Pattern | None = None
    role: Role = "member"

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.group is None) == (self.pattern is None):
            raise ValueError("has either group or pattern")
        if (self.group is None) != (self.team is None):
            raise ValueError("names a team where it names a group; a pattern's team is its group (?P<team>…)")
        if self.pattern is not None and "team" not in re.compile(self.pattern).groupindex:
            raise ValueError("has a pattern without the group (?P<team>…)")
        return self

    def team_of(self, group: str) -> str | None:
        """The team that the group is about; None: the group is none of this rule's."""
        if self.pattern is None:
            return self.team if group == self.group else None
        matched = re.fullmatch(self.pattern, group)
        return matched["team"] if matched else None


class ClaimsTable(_Part):
    """The file. Only ``organization`` has to be there."""

    subject: Place = "sub"
    organization: OrganizationRule
    groups: Place | None = None
    """The claim with the groups of somebody."""
    admins: frozenset[str] = frozenset()
    """Groups whose people are admins of their organization."""
    members: frozenset[str] | Literal["*"] = _EVERYBODY
    """Groups whose people are members of their organization; ``*``: everybody who is nothing else."""
    teams: tuple[TeamRule, ...] = ()
    scopes: Mapping[str, frozenset[Scope]] = {}
    """Scopes that groups grant."""
    scope: Place | None = None
    """The claim whose scopes count; None: none that the provider writes into a token counts."""

    @model_validator(mode="after")
    def _groups_are_somewhere(self) -> Self:
        if self.groups is None and (self.admins or self.teams or self.scopes or self.members != _EVERYBODY):
            raise ValueError("speaks of groups, so that groups has to name their claim")
        return self


def claims_table(file: Path) -> ClaimsTable:
    """The table in the file. Raises SettingsError that names every place at fault."""
    try:
        with file.open("rb") as opened:
            text = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise unusable("BYOK_JWT_CLAIMS_FILE", file, error) from None
    if len(text) > FILE_BYTES_MAX:
        raise SettingsError("BYOK_JWT_CLAIMS_FILE is larger than 1 MiB")
    try:
        return ClaimsTable.model_validate_json(text)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        said = "; ".join(f"{_at(each['loc'])}{each['msg'].removeprefix('Value error, ')}" for each in found)
        raise SettingsError(f"BYOK_JWT_CLAIMS_FILE: {said}") from None


def _at(place: tuple[int | str, ...]) -> str:
    return f"{'.'.join(map(str, place))}: " if place else "the table "


def our_claims(table: ClaimsTable, claims: Mapping[str, Any]) -> dict[str, Any]:
    """``sub``, ``org_id``, ``org_role``, ``teams`` and ``scope`` of somebody. Raises ClaimsRefusedError."""
    groups = _groups(table, claims)
    role = _role(table, groups)
    ours: dict[str, Any] = {
        "sub": _text(_found(claims, table.subject)),
        "org_id": _organization(table.organization, claims),
        # Whoever is nobody's member is in no team of it either.
        "teams": _teams(table.teams, groups) if role else {},
        "scope": " ".join(sorted(_scopes(table, groups, claims))),
    }
    return ours | ({"org_role": role} if role else {})


def _organization(rule: OrganizationRule, claims: Mapping[str, Any]) -> str:
    if rule.always is not None:
        return rule.always
    found = {org for value in _values(_found(claims, rule.claim)) if (org := _organization_named(rule, value))}
    if not found:
        raise ClaimsRefusedError(
            "You belong to no organization that is known here; an administrator can add you to one."
        )
    if len(found) > 1:
        raise ClaimsRefusedError("You belong to several organizations, and nothing says which one this is about.")
    (org,) = found
    return org


def _organization_named(rule: OrganizationRule, value: str) -> str | None:
    if rule.pattern is not None:
        matched = re.fullmatch(rule.pattern, value)
        value = (matched["org"] or "") if matched else ""
    if rule.names is not None:
        return rule.names.get(value)
    # All organizations are nobody's whom our own table does not name.
    return None if value == _EVERYBODY else value or None


def _role(table: ClaimsTable, groups: frozenset[str]) -> Role | None:
    if groups & table.admins:
        return "admin"
    return "member" if table.members == _EVERYBODY or not groups.isdisjoint(table.members) else None


def _teams(rules: Iterable[TeamRule], groups: frozenset[str]) -> dict[str, Role]:
    found = [(team, rule.role) for rule in rules for group in groups if (team := rule.team_of(group))]
    # The greater right stands, in whatever order the rules are.
    return {team: "admin" if (team, "admin") in found else role for team, role in sorted(found)}


def _scopes(table: ClaimsTable, groups: frozenset[str], claims: Mapping[str, Any]) -> frozenset[str]:
    own = _found(claims, table.scope) if table.scope is not None else None
    named = own.split() if isinstance(own, str) else _values(own)
    granted = (table.scopes[group] for group in groups & table.scopes.keys())
    return frozenset(SCOPES).intersection(named).union(*granted)


def _groups(table: ClaimsTable, claims: Mapping[str, Any]) -> frozenset[str]:
    if table.groups is None:
        return frozenset()
    # Microsoft Entra leaves out the groups of whoever has many, and says so.
    if isinstance(claims.get("_claim_names"), Mapping) and "groups" in claims["_claim_names"]:
        raise ClaimsRefusedError("You are in more groups than your identity provider tells; it has to tell fewer.")
    return frozenset(_values(_found(claims, table.groups)))


def _found(claims: Mapping[str, Any], place: Place | None) -> Any:
    found: Any = claims
    for name in (place,) if isinstance(place, str) else place or ():
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _values(found: Any) -> tuple[str, ...]:
    """A claim's values, whether it is one, a list, or an object by their names."""
    values = (found,) if isinstance(found, str) else tuple(found) if isinstance(found, list | Mapping) else ()
    if len(values) > GROUPS_MAX:
        raise ClaimsRefusedError(f"You are in more than {GROUPS_MAX} groups; your identity provider has to tell fewer.")
    return tuple(value for value in values if isinstance(value, str) and 0 < len(value) <= _VALUE_CHARACTERS_MAX)


def _text(found: Any) -> str:
    if not isinstance(found, str) or not found:
        raise ClaimsRefusedError("Your identity provider does not say who you are in the claim that is asked for.")
    return found
