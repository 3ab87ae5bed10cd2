"""Destroys, in the background, secrets that can be brought back no more, and forgets what is kept no more."""

from __future__ import annotations

import threading
from functools import partial
from typing import NamedTuple

import sqlalchemy.exc

from services.key_registry.database import secrets as secret_rows
from services.key_registry.database.sessions import Sessions
from services.key_registry.handlers.once import forget_answers
from services.key_registry.handlers.sessions import forget_ended
from services.runtime.background import repeat
from services.runtime.logs import logger

_log = logger(__name__)

INTERVAL_SECONDS = 5.0
"""How long at most a secret outlives its time, while the database answers."""


class Swept(NamedTuple):
    """What one round has done."""

    secrets: int
    answers: int
    ended_sessions: int


def sweep(sessions: Sessions) -> Swept:
    """One round. Several registries may do it at once: each row is destroyed by one of them."""
    with sessions.begin() as session:
        return Swept(secret_rows.destroy_expired(session), forget_answers(session), forget_ended(session))


def sweep_on(sessions: Sessions, stop: threading.Event) -> None:
    """Sweep until ``stop`` is set; an outage of the database only delays it. The first round is at once: time went on
    while nobody ran."""
    repeat(partial(_round, sessions), INTERVAL_SECONDS, stop)


def _round(sessions: Sessions) -> None:
    try:
        swept = sweep(sessions)
    except (sqlalchemy.exc.DBAPIError, sqlalchemy.exc.TimeoutError) as error:
        _log.warning("sweep failed, tried again", error=type(error).__name__)
    else:
        if any(swept):
            _log.info(
                "swept",
                secrets_destroyed=swept.secrets,
                answers_forgotten=swept.answers,
                ended_sessions_forgotten=swept.ended_sessions,
            )
