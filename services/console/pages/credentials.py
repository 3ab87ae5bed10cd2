"""Credentials: the keys of oneself, of each team, of the organization; how they stand, and which one applies now."""

from __future__ import annotations

from asyncio import gather
from typing import NamedTuple

from starlette.responses import Response

from services.console import credential_words
from services.console.apis import ApiError, Json, Query
from services.console.credential_words import Said, applies
from services.console.spaces import ALL, Space, may_add, space_of, spaces
from services.console.visit import Visit
from services.domain.scope import Plan, ScopeType

PATH = "/credentials"
PAGE_KEYS = 200
_NOT_USABLE = ("credential_lost", "credential_unusable")


async def credentials(visit: Visit) -> Response:
    """The page; of everybody's keys one page at a time."""
    space = space_of(visit.query, visit.caller, visit.org_id)
    found, plan, providers = await gather(
        visit.registry.get("credentials", query=_listed(visit, space)),
        visit.registry.get("organizations", visit.org_id, "plan"),
        visit.registry.get("providers"),
    )
    more = found["next_cursor"]
    return visit.page(
        "credentials.html",
        says=credential_words,
        plan=Plan(plan["plan"]),
        plans=tuple(Plan),
        levels=tuple(ScopeType),
        space=space,
        tabs=[(each, visit.link(PATH, **each.fields)) for each in spaces(visit.caller, visit.org_id)],
        may_add=space.scope is not None and may_add(visit.caller, visit.org_id, space.scope),
        kept=[each for each in found["items"] if each["status"] != "deleted"],
        deleted=[each for each in found["items"] if each["status"] == "deleted"],
        more=visit.link(PATH, **space.fields, cursor=more) if more else None,
        applying=await _applying(visit, space, providers["providers"]),
    )


def _listed(visit: Visit, space: Space) -> Query:
    cursor = visit.query.get("cursor")
    return {
        "org_id": visit.org_id,
        "limit": PAGE_KEYS,
        **({} if space.level == ALL else {"scope_type": space.level, "scope_id": space.id}),
        **({"cursor": cursor} if cursor else {}),
    }


class Applying(NamedTuple):
    """Which key is used for a provider now."""

    provider: str
    said: Said
    credential_id: str | None


async def _applying(visit: Visit, space: Space, providers: list[str]) -> list[Applying]:
    """For whoever is signed in, in the team of the tab, else in their own space; nothing for services."""
    if not visit.caller.is_person_of(visit.org_id) or space.level == ALL:
        return []
    team = space.id if space.level == ScopeType.TEAM else None
    return await gather(*(_applies(visit, team, provider) for provider in providers))


async def _applies(visit: Visit, team: str | None, provider: str) -> Applying:
    use: Json = {"org_id": visit.org_id, "user_id": visit.caller.id, "team_id": team, "provider": provider}
    try:
        answer = await visit.registry.post("resolve", body=use)
    except ApiError as error:
        if error.code not in _NOT_USABLE:
            raise
        return Applying(provider, applies(error.code), None)
    return Applying(provider, applies(answer["reason"]), answer["credential_id"])
