"""Dead letters: the events of an organization that were refused, why, when, where, and what to do."""

from __future__ import annotations

from asyncio import gather

from starlette.responses import Response

from services.console.visit import Visit

PATH = "/usage/dead-letters"
_SHOWN_MAX = 100
# Of what was refused no more is known for certain.
_FILTERS = ("from", "to", "event_type")


async def dead_letters(visit: Visit) -> Response:
    """The page; the newest first."""
    asked = visit.asked
    reason, cursor = visit.query.get("reason", ""), visit.query.get("cursor", "")
    query = {name: value for name, value in asked.query().items() if name in _FILTERS}
    of_reason = {**query, "reason": reason} if reason else query
    counts, letters = await gather(
        visit.ledger.get("organizations", visit.org_id, "dead-letter-counts", query=query),
        visit.ledger.get(
            "organizations",
            visit.org_id,
            "dead-letters",
            query={**of_reason, "limit": _SHOWN_MAX, **({"cursor": cursor} if cursor else {})},
        ),
    )
    by_reason = counts["by_reason"]
    more = letters["next_cursor"]
    return visit.page(
        "dead_letters.html",
        asked=asked,
        reason=reason,
        total=by_reason.get(reason, 0) if reason else counts["total"],
        by_reason=[(name, count, visit.link(PATH, **asked.fields(reason=name))) for name, count in by_reason.items()],
        letters=letters["dead_letters"],
        more=visit.link(PATH, **asked.fields(reason=reason, cursor=more)) if more else None,
        newest=visit.link(PATH, **asked.fields(reason=reason)) if cursor else None,
        every=visit.link(PATH, **asked.fields()),
    )
