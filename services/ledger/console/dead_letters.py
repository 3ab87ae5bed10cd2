"""What the console shows of refused events: how many, and a list of why, when, where, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from schemas.dead_letters import Reason
from services.domain.permissions import LEDGER_READ, Caller
from services.ledger.console.savings import Asked, query_of
from services.ledger.handlers import Handlers
from services.ledger.query import DeadLettersQuery

PAGE = "/console/dead-letters"
SHOWN_MAX = 100
# What a refused event says of these, if it says anything, may be the very thing that is wrong with it.
_NOT_KNOWN = {"provider": "provider", "model": "model", "user_id": "user", "team_id": "team"}

WHAT_TO_DO: Mapping[str, str] = {
    Reason.MALFORMED_JSON: "Mend the sender: what it sent is no JSON in UTF-8. Send the events again under their ids.",
    Reason.BATCH_TOO_LARGE: "Send at most 1,000 events and 4 MiB at once. Send these again in smaller batches.",
    Reason.UNSUPPORTED_TYPE: "Send one of the types that the contract has. If it is a newer one, an operator upgrades"
    " and runs byok dead-letters replay.",
    Reason.INVALID_EVENT: "Mend the field that the detail names, and send the event again under its id.",
    Reason.TIME_IN_FUTURE: "Set the sender's clock right. Once the time has come, an operator runs"
    " byok dead-letters replay.",
    Reason.NO_RATE_CARD: "An operator publishes a rate card that is in force at the event's time, and runs"
    " byok dead-letters replay --priced.",
    Reason.UNPRICED_MODEL: "An operator publishes a rate card that lists the model, or adds the name as another one of"
    " a model, and runs byok dead-letters replay --priced.",
    Reason.UNPRICED_UNIT: "An operator publishes a rate card that prices what the detail names, and runs"
    " byok dead-letters replay --priced.",
    Reason.UNPRICED_CONDITION: "An operator publishes a rate card that says what the condition costs, and runs"
    " byok dead-letters replay --priced.",
    Reason.IDENTITY_CONFLICT: "Its id is booked with other contents, which stay. Give each act an id of its own, and"
    " send it again under that.",
}
"""For each reason, to whom it is sent back."""


class Refused(NamedTuple):
    """How many events were refused, as far as that can be told under the filters of the page."""

    total: int | None
    """None under filters that a dead letter cannot be judged by."""
    by_reason: dict[str, int]
    not_known: list[str]
    """Those filters."""
    link: str
    """To the list of them; under such filters, of all in that time."""


def refused_of(handlers: Handlers, caller: Caller, asked: Asked) -> Refused | None:
    """What the savings page says of dead letters; None for whoever may not see any."""
    if LEDGER_READ not in caller.scopes:
        return None
    not_known = [label for name, label in _NOT_KNOWN.items() if name in asked.filters]
    link = asked.link(PAGE, **dict.fromkeys(_NOT_KNOWN, ""))
    if not_known:
        return Refused(None, {}, not_known, link)
    by_reason = handlers.count_dead_letters(caller, asked.org_id, _query(asked))
    return Refused(sum(by_reason.values()), by_reason, [], link)


def dead_letters_of(handlers: Handlers, caller: Caller, asked: Asked, reason: str) -> dict[str, Any]:
    """Everything the list shows; ``reason`` may be empty. Raises Refusal for whoever may not see any."""
    by_reason = handlers.count_dead_letters(caller, asked.org_id, _query(asked))
    letters = handlers.list_dead_letters(caller, asked.org_id, _query(asked, reason), most=SHOWN_MAX)
    return {
        "reason": reason,
        "by_reason": [(name, count, asked.link(PAGE, reason=name)) for name, count in by_reason.items()],
        "letters": [(letter, WHAT_TO_DO.get(letter["reason"], "")) for letter in letters],
        "total": by_reason.get(reason, 0) if reason else sum(by_reason.values()),
        "all": asked.link(PAGE),
        "back": asked.link("/console/"),
    }


def _query(asked: Asked, reason: str = "") -> DeadLettersQuery:
    filters = {"event_type": asked.filters.get("event_type"), "reason": reason or None}
    return query_of(DeadLettersQuery, {**asked.bounds(), **filters})
