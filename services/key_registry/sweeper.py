"""Destroys, in the background, secrets that can be brought back no more, and forgets answers that are kept no more."""

from __future__ import annotations

import threading
from typing import NamedTuple

import sqlalchemy.exc

from services.key_registry.database import secrets as secret_rows
from services.key_registry.database.sessions import Sessions
from services.key_registry.handlers.once import forget_answers
from services.runtime.logs import logger

_log = logger(__name__)

INTERVAL_SECONDS = 5.0
"""How long at most a secret outlives its time, while the database answers."""
_STOP_SECONDS = 5.0


class Swept(NamedTuple):
    """What one round has done."""

    secrets: int
    answers: int


def sweep(sessions: Sessions) -> Swept:
    """One round. Several registries may do it at once: each row is destroyed by one of them."""
    with sessions.begin() as session:
        return Swept(secret_rows.destroy_expired(session), forget_answers(session))


class Sweeper:
    """Sweeps until it is stopped; an outage of the database only delays it."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        """Begin with a round at once: time went on while nobody ran."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the round under way."""
        self._stop.set()
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while True:
            try:
                swept = sweep(self._sessions)
            except (sqlalchemy.exc.DBAPIError, sqlalchemy.exc.TimeoutError) as error:
                _log.warning("sweep failed, tried again", error=type(error).__name__)
            else:
                if any(swept):
                    _log.info("swept", secrets_destroyed=swept.secrets, answers_forgotten=swept.answers)
            if self._stop.wait(INTERVAL_SECONDS):
                return
