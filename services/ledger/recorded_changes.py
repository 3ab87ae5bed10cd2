"""The newest registry change that the ledger has, for requests that must not wait for a database that is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from sqlalchemy.exc import SQLAlchemyError

_WAIT_SECONDS = 1.0


class RecordedChanges:
    """Asks in a thread beside, one question at a time, whose answer all who wait for it share.

    A database that is stopped, and not gone, takes a question and never answers: it costs one thread, and nobody more
    than a second.
    """

    def __init__(self, read: Callable[[], int], wait_seconds: float = _WAIT_SECONDS) -> None:
        """``read`` may take for ever, or raise SQLAlchemyError; ``wait_seconds`` is how long one question may take."""
        self._read = read
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._answer: Future[int] | None = None
        self._until = 0.0

    def newest(self) -> int | None:
        """Its ``seq``, as it was a moment ago; None where the database does not say."""
        with self._lock:
            if self._answer is None or self._answer.done():
                self._answer = Future()
                self._until = time.monotonic() + self._wait_seconds
                threading.Thread(target=self._ask, args=(self._answer,), name="recorded-changes", daemon=True).start()
            answer, patience = self._answer, self._until - time.monotonic()
        try:
            return answer.result(max(0.0, patience))
        except (TimeoutError, SQLAlchemyError):
            return None

    def _ask(self, answer: Future[int]) -> None:
        try:
            answer.set_result(self._read())
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            answer.set_exception(error)
