"""The ids of events. Who does the same thing again gets the same id, and is charged once.

An id follows from what the act *is* (its type, run, step, and which answer of the provider's it was), never from when
or where it is written down: so an event that is sent twice, by whomever, is one event. It is fixed before the provider
is called.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter

from byok_sdk.errors import StepTakenError

NAMESPACE = uuid.UUID("6c3c5b0e-3d5a-5f0e-9b1c-7a1f0d2e4b68")
"""Of all our ids. It never changes: another one would charge what is sent again a second time."""


def run_event_id(event_type: str, run_id: str, step: str, occurrence: str, attempt: int) -> str:
    """The id of an event of a run.

    ``occurrence`` tells apart the acts of one step (see ``Steps``); ``attempt``, from 1, the answers of the provider
    within one act, each of which it bills.
    """
    return _named("run", event_type, run_id, step, occurrence, attempt)


def response_event_id(event_type: str, provider: str, response_id: str) -> str:
    """The id of an event outside of any run: it follows from the provider's own id of its answer."""
    return _named("response", event_type, provider, response_id)


def random_event_id() -> str:
    """The id of an event that nothing identifies. It is made when the act begins, and kept on disk with the event."""
    return str(uuid.uuid4())


def _named(*parts: str | int) -> str:
    # As JSON, so that no two lists of parts are written alike.
    return str(uuid.uuid5(NAMESPACE, json.dumps(parts, ensure_ascii=True, separators=(",", ":"))))


class Steps:
    """Which time of a step this is, in one run.

    Steps are counted by name in the order in which they begin: a run that is carried out again, as durable workflows
    do, counts alike. Where that order is chance (threads), each act is given a ``key`` of its own, such as the number
    of the document it is about.
    """

    def __init__(self) -> None:
        """Nothing was begun."""
        self._lock = threading.Lock()
        self._begun: Counter[tuple[str, str]] = Counter()
        self._keys: set[tuple[str, str, str]] = set()

    def occurrence(self, event_type: str, step: str, key: str | None) -> str:
        """What tells this act from others of its step. Raises StepTakenError where ``key`` was given before."""
        with self._lock:
            if key is None:
                self._begun[event_type, step] += 1
                return f"#{self._begun[event_type, step]}"
            if (event_type, step, key) in self._keys:
                raise StepTakenError(f"this run has an act {step!r} with the key {key!r} already")
            self._keys.add((event_type, step, key))
            return f"={key}"
