"""+ Add credential: whose it is to be, for which provider, and what that makes of prices; paste, save."""

from __future__ import annotations

import secrets
from asyncio import gather
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from pydantic import SecretStr
from starlette.responses import Response

from services.console import credential_words
from services.console.apis import ApiError, Json
from services.console.form_problems import Problem
from services.console.pages.credentials import PAGE_KEYS
from services.console.pages.credentials import PATH as CREDENTIALS
from services.console.pasted_keys import looks_of_others, pasted_key, without_key
from services.console.prices import own_key_prices
from services.console.spaces import may_add, spaces
from services.console.visit import Visit
from services.domain.permissions import Action, may
from services.domain.scope import Plan, Scope, ScopeType

PATH = f"{CREDENTIALS}/new"
_USED = ("active", "shadowed", "lost")


async def new_credential(visit: Visit) -> Response:
    """The form, empty."""
    return await _form(visit, _Filled.of(visit.query, visit), None)


async def add_credential(visit: Visit) -> Response:
    """Add the key, once; what its provider thinks of it stands on the page of the key."""
    filled, key = _Filled.of(visit.form, visit), pasted_key(visit.form.get("api_key", ""))
    problem = _wrong(filled, key, visit.form)
    if problem is not None:
        return await _form(visit, filled, problem)
    body: Json = {
        "org_id": visit.org_id,
        "scope": {"type": filled.level, "id": filled.id},
        "provider": filled.provider,
        "api_key": key,
        **({"label": filled.label} if filled.label else {}),
    }
    try:
        added = await visit.registry.post("credentials", body=body, once=visit.form.get("once"))
    except ApiError as error:
        return await _form(visit, filled, Problem.of(error))
    return visit.go_to(f"{CREDENTIALS}/{added['credential_id']}", told="credential_added")


class _Filled(NamedTuple):
    """What the form holds, but for the key, which it never holds again."""

    level: str
    id: str
    provider: str
    label: str

    @classmethod
    def of(cls, given: Mapping[str, str], visit: Visit) -> _Filled:
        levels = [level for level in ScopeType if level == given.get("level")]
        level = levels[0] if levels else spaces(visit.caller, visit.org_id)[0].level
        ids = {ScopeType.ORGANIZATION: visit.org_id, ScopeType.PERSONAL: _oneself(visit)}
        id_ = without_key(given.get("id", "")) or ids.get(ScopeType(level), "")
        return cls(level, id_, without_key(given.get("provider", "")), without_key(given.get("label", "")))

    @property
    def scope(self) -> Scope:
        return Scope(ScopeType(self.level), self.id)


def _oneself(visit: Visit) -> str:
    return visit.caller.id if visit.caller.is_person_of(visit.org_id) else ""


def _wrong(filled: _Filled, key: SecretStr, form: Mapping[str, str]) -> Problem | None:
    """What is seen here already: a field is empty, or the key looks like another provider's, and nobody said that it
    is right nevertheless."""
    if form.get("level") != filled.level or not filled.id:
        return Problem.missing("scope.id", "Say whose key it is to be.")
    if not filled.provider:
        return Problem.missing("provider", "Select a provider.")
    if not key.get_secret_value():
        return Problem.missing("api_key", "Paste a key.")
    if without_key(form.get("label", "")) != form.get("label", ""):
        return Problem.missing("label", "The label looks like a key; the key belongs in the field below.")
    others = looks_of_others(key, filled.provider)
    return Problem.question(others, filled.provider) if others and form.get("sure") != filled.provider else None


async def _form(visit: Visit, filled: _Filled, problem: Problem | None) -> Response:
    models, plan, listed, enforced = await gather(
        visit.registry.get("models"),
        visit.registry.get("organizations", visit.org_id, "plan"),
        _keys(visit, filled.scope),
        _keys(visit, Scope(ScopeType.ORGANIZATION, visit.org_id)),
    )
    return visit.page(
        "new_credential.html",
        status=problem.status if problem else HTTPStatus.OK,
        says=credential_words,
        filled=filled,
        problem=problem,
        once=secrets.token_urlsafe(18),
        plan=Plan(plan["plan"]),
        included=Plan(plan["plan"]).allows(filled.scope.type),
        choices=_choices(visit, filled),
        may_add=may_add(visit.caller, visit.org_id, filled.scope),
        prices=own_key_prices(models),
        there={each["provider"]: each["credential_id"] for each in listed},
        enforced=set() if filled.level == ScopeType.ORGANIZATION else _enforced(enforced),
        back=visit.link(CREDENTIALS, level=filled.level, id=filled.id if filled.level == ScopeType.TEAM else ""),
    )


async def _keys(visit: Visit, scope: Scope) -> list[Json]:
    """Those that stand in the way of another for the same provider."""
    if not scope.id:
        return []
    query = {"org_id": visit.org_id, "scope_type": scope.type.value, "scope_id": scope.id, "limit": PAGE_KEYS}
    found = await visit.registry.get("credentials", query=query)
    return [each for each in found["items"] if each["status"] in _USED]


def _enforced(organization_keys: list[Json]) -> set[str]:
    return {each["provider"] for each in organization_keys if each["status"] == "active"}


def _choices(visit: Visit, filled: _Filled) -> list[tuple[str, str, bool]]:
    """For whom one may add keys: label, link, and whether it is what the form is about."""
    caller, org_id = visit.caller, visit.org_id
    found = [
        (each.label, each.level, each.id)
        for each in spaces(caller, org_id)
        if each.scope is not None and may_add(caller, org_id, each.scope)
    ]
    if may(caller, Action.ADD, org_id, Scope(ScopeType.TEAM, "")):
        found.append(("Another team" if caller.teams else "A team", ScopeType.TEAM, ""))
    if may(caller, Action.ADD, org_id, Scope(ScopeType.PERSONAL, "")):
        found.append(("A person", ScopeType.PERSONAL, ""))
    known = {(level, id_) for _, level, id_ in found if id_}
    wanted = (filled.level, filled.id if (filled.level, filled.id) in known else "")
    return [
        (label, visit.link(PATH, level=level, id=id_, provider=filled.provider), (level, id_) == wanted)
        for label, level, id_ in found
    ]
