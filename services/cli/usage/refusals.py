"""Rows that were not sent: the first ones are kept to be shown, all of them can be written to a file."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, TextIO

from pydantic import ValidationError

from schemas.usage_events import EVENT_MODELS
from services.domain.masking import mask_text
from services.messages.usage_events import faults_of

_SHOWN_MAX = 20


class Refusal(NamedTuple):
    """One row that was not sent; ``field`` is empty where the row as a whole is wrong."""

    line: int
    field: str
    problem: str


def check_event(event: dict[str, Any]) -> tuple[str, str] | None:
    """The field and what is wrong with it, in the words of the metering itself; None where the event is good."""
    event_type = event.get("type")
    if event_type is None:
        return ("type", "is missing; --type gives one to every row")
    model = EVENT_MODELS.get(event_type) if isinstance(event_type, str) else None
    if model is None:
        return ("type", f"must be one of {', '.join(EVENT_MODELS)}")
    try:
        model.model_validate(event)
    except ValidationError as error:
        first, *more = faults_of(error)
        return (first.field, "; ".join([first.detail, *map(str, more)]))
    return None


class Refusals:
    """Counts refused rows and keeps the first of them; writes every one to ``file`` as a line of JSON."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self.count = 0
        self.shown: list[Refusal] = []

    def add(self, refusal: Refusal) -> None:
        """Take note of one. Its text is masked: a key may stand where it does not belong."""
        refusal = refusal._replace(problem=mask_text(refusal.problem))
        self.count += 1
        if len(self.shown) < _SHOWN_MAX:
            self.shown.append(refusal)
        if self._file is not None:
            self._file.write(json.dumps(refusal._asdict(), ensure_ascii=False) + "\n")
