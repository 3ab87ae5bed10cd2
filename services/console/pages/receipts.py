"""A receipt: one entry, and everything that its price follows from."""

from __future__ import annotations

from starlette.responses import Response

from services.console.visit import Visit

PATH = "/receipts/{entry_id:uuid}"


async def receipt(visit: Visit) -> Response:
    """The page."""
    entry_id = str(visit.request.path_params["entry_id"])
    return visit.page("receipt.html", receipt=await visit.ledger.get("entries", entry_id, "receipt"))
