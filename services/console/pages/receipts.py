"""A receipt: one entry in words, which key was used and why, its price unit by unit, and what became of it."""

from __future__ import annotations

from starlette.responses import Response

from services.console.apis import Json
from services.console.receipt_lines import card_terms, price_lines
from services.console.visit import Visit

PATH = "/receipts/{entry_id:uuid}"


async def receipt(visit: Visit) -> Response:
    """The page."""
    entry_id = str(visit.request.path_params["entry_id"])
    found = await visit.ledger.get("entries", entry_id, "receipt")
    evidence, entry = found["evidence"], found["entry"]
    explained = next(row for row in found["revisions"] if row["entry_id"] == found["explains_entry_id"])
    card = evidence.get("rate_card")
    return visit.page(
        "receipt.html",
        receipt=found,
        entry=entry,
        explained=explained,
        evidence=evidence,
        is_current=found["current_entry_id"] == entry["entry_id"],
        lines=price_lines(explained, card) if card else [],
        terms=card_terms(card) if card else [],
        run=_of_run(visit, entry),
        event=visit.link("/usage", org_id=entry["org_id"], event_id=entry["event_id"], all="1"),
    )


def _of_run(visit: Visit, entry: Json) -> str | None:
    if entry["run_id"] is None:
        return None
    return visit.link("/usage", org_id=entry["org_id"], run_id=entry["run_id"], all="1")
