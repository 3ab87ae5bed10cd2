"""One key: how it stands, fares and came to be; checked, replaced, brought back, switched off, renamed, deleted."""

from __future__ import annotations

from asyncio import gather
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus

from starlette.responses import Response

from services.console import credential_words
from services.console.apis import ApiError, Json, Tagged
from services.console.form_problems import Problem
from services.console.pages.credentials import PAGE_KEYS
from services.console.pages.credentials import PATH as CREDENTIALS
from services.console.pasted_keys import looks_of_others, pasted_key
from services.console.prices import own_key_prices
from services.console.times import instant
from services.console.visit import Visit
from services.domain.permissions import Action, may, may_read_audit
from services.domain.scope import Scope, ScopeType

PATH = f"{CREDENTIALS}/{{credential_id}}"
DELETE_PATH = f"{PATH}/delete"
_HISTORY_ROWS = 100


async def credential(visit: Visit) -> Response:
    """The page of a key."""
    return await _page(visit, None)


async def change_credential(visit: Visit) -> Response:
    """Do what the button says, to the key as it was shown. Where that is refused, the page says why."""
    act = _ACTS.get(visit.form.get("act", ""))
    if act is None:
        return visit.go_to(_path(visit))
    try:
        told = await act(visit, visit.form.get("seen"))
    except ApiError as error:
        return await _page(visit, Problem.of(error))
    return await _page(visit, told) if isinstance(told, Problem) else visit.go_to(_path(visit), told=told)


async def delete_page(visit: Visit) -> Response:
    """What deleting does, and the button that does it."""
    return await _delete_page(visit, None)


async def delete_credential(visit: Visit) -> Response:
    """End the key, and have it destroyed."""
    try:
        await visit.registry.delete("credentials", _id(visit), seen=visit.form.get("seen"))
    except ApiError as error:
        if error.status != HTTPStatus.PRECONDITION_FAILED:
            raise
        return await _delete_page(visit, Problem.of(error))
    return visit.go_to(CREDENTIALS, level=visit.form.get("level"), id=visit.form.get("id"), told="credential_deleted")


def _id(visit: Visit) -> str:
    found: str = visit.request.path_params["credential_id"]
    return found


def _path(visit: Visit) -> str:
    return visit.request.url.path


# What can be done; each says what was done (a key of ``words.DONE``), or why nothing was.

_Act = Callable[[Visit, str | None], Awaitable[str | Problem]]


async def _check(visit: Visit, _seen: str | None) -> str:
    await visit.registry.post("credentials", _id(visit), "verify", body={})
    return "credential_checked"


async def _replace(visit: Visit, seen: str | None) -> str | Problem:
    key = pasted_key(visit.form.get("api_key", ""))
    if not key.get_secret_value():
        return Problem.missing("api_key", "Paste a key.")
    # Not by the form, of which nothing is repeated.
    provider = (await _shown(visit)).body["provider"]
    others = looks_of_others(key, provider)
    if others and visit.form.get("sure") != provider:
        return Problem.question(others, provider)
    body: Json = {"api_key": key}
    await visit.registry.post("credentials", _id(visit), "rotate", body=body, seen=seen, once=visit.form.get("once"))
    return "credential_replaced"


async def _bring_back(visit: Visit, seen: str | None) -> str:
    await visit.registry.post("credentials", _id(visit), "rotate", "undo", body={}, seen=seen)
    return "credential_brought_back"


async def _switch_off(visit: Visit, seen: str | None) -> str:
    await visit.registry.patch("credentials", _id(visit), body={"enabled": False}, seen=seen)
    return "credential_switched_off"


async def _switch_on(visit: Visit, seen: str | None) -> str:
    await visit.registry.patch("credentials", _id(visit), body={"enabled": True}, seen=seen)
    return "credential_switched_on"


async def _rename(visit: Visit, seen: str | None) -> str:
    label = visit.form.get("label", "") or None
    await visit.registry.patch("credentials", _id(visit), body={"label": label}, seen=seen)
    return "credential_renamed"


_ACTS: Mapping[str, _Act] = {
    "check": _check,
    "replace": _replace,
    "bring-back": _bring_back,
    "switch-off": _switch_off,
    "switch-on": _switch_on,
    "rename": _rename,
}


async def _page(visit: Visit, problem: Problem | None) -> Response:
    shown, models = await gather(_shown(visit), visit.registry.get("models"))
    key = shown.body
    prices = own_key_prices(models).get(key["provider"])
    return visit.page(
        "credential.html",
        status=problem.status if problem else HTTPStatus.OK,
        says=credential_words,
        key=key,
        seen=shown.tag,
        problem=problem,
        prices=prices if key["status"] == "active" else None,
        may=_allowed(visit, key),
        can_undo=key["undo_until"] is not None and instant(key["undo_until"]) > datetime.now(UTC),
        history=await _history(visit, key),
        back=_back(visit, key),
    )


async def _delete_page(visit: Visit, problem: Problem | None) -> Response:
    shown = await _shown(visit)
    key = shown.body
    if key["status"] == "deleted":
        return visit.go_to(f"{CREDENTIALS}/{key['credential_id']}")
    models, others = await gather(visit.registry.get("models"), _others(visit, key))
    return visit.page(
        "delete_credential.html",
        status=problem.status if problem else HTTPStatus.OK,
        says=credential_words,
        key=key,
        seen=shown.tag,
        problem=problem,
        others=others,
        prices=own_key_prices(models).get(key["provider"]),
        owner_fields=_owner_fields(visit, key),
    )


async def _others(visit: Visit, key: Json) -> list[Json]:
    """The keys for the same provider, as far as the reader may know of them, that would be used where this one is."""
    query = {"org_id": key["org_id"], "provider": key["provider"], "limit": PAGE_KEYS}
    found = await visit.registry.get("credentials", query=query)
    of_organization = key["scope"]["type"] == ScopeType.ORGANIZATION
    return [
        each
        for each in found["items"]
        if each["credential_id"] != key["credential_id"]
        and (each["status"] == "active" or (of_organization and each["shadowed_by"] == "organization_key"))
    ]


async def _shown(visit: Visit) -> Tagged:
    return await visit.registry.get_tagged("credentials", _id(visit))


def _scope(key: Json) -> Scope:
    return Scope(ScopeType(key["scope"]["type"]), key["scope"]["id"])


def _allowed(visit: Visit, key: Json) -> Mapping[str, bool]:
    """Which actions are shown. The registry decides, by the same table."""
    scope, kept = _scope(key), key["status"] != "deleted"
    return {action.name.lower(): kept and may(visit.caller, action, key["org_id"], scope) for action in Action}


async def _history(visit: Visit, key: Json) -> list[Json] | None:
    """What was done with the key, the newest first; None for whoever may not read it."""
    if not may_read_audit(visit.caller, key["org_id"]):
        return None
    query = {
        "org_id": key["org_id"],
        "credential_id": key["credential_id"],
        "action": tuple(credential_words.EVENTS),
        "limit": _HISTORY_ROWS,
    }
    found = await visit.registry.get("audit", query=query)
    rows: list[Json] = found["items"]
    return rows


def _owner_fields(visit: Visit, key: Json) -> dict[str, str]:
    """The tab that the key stands on."""
    level, id_ = key["scope"]["type"], key["scope"]["id"]
    foreign = (level == ScopeType.PERSONAL and id_ != visit.caller.id) or (
        level == ScopeType.TEAM and id_ not in visit.caller.teams
    )
    return {"level": "all"} if foreign else {"level": level, "id": id_ if level == ScopeType.TEAM else ""}


def _back(visit: Visit, key: Json) -> str:
    return visit.link(CREDENTIALS, **_owner_fields(visit, key))
