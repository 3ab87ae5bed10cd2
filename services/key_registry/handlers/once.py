"""Requests with an Idempotency-Key: sent again by the same caller, they get the same answer, and nothing is done twice.

Answers are kept for 24 hours. Of key and request only hashes are stored: that of the request is keyed, since the
request holds a secret. Refusals are not kept: whoever repeats a refused request may be luckier.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import timedelta

from pydantic import TypeAdapter
from sqlalchemy import delete, func
from sqlmodel import Session, col

from services.domain.permissions import Caller
from services.key_registry.database.sessions import Sessions
from services.key_registry.database.tables import IdempotentAnswer
from services.key_registry.handlers.views import CredentialView
from services.key_registry.keyring.envelopes import Keyring
from services.key_registry.log.outbox import log_time
from services.key_registry.rules.refusals import Code
from services.runtime.refusals import Refusal

KEPT_FOR = timedelta(hours=24)
_VIEW = TypeAdapter(CredentialView)


class Once:
    """One request; without an Idempotency-Key it is a new one each time."""

    def __init__(self, keyring: Keyring, request_id: str | None, request: bytes) -> None:
        """Asks for a KEK, so not while the log is taken."""
        self._keyring = keyring
        self._request_id = request_id
        self._request = request
        self._mac = "" if request_id is None else keyring.mac(request)

    def answered(self, sessions: Sessions) -> CredentialView | None:
        """What ``answer`` says before the log is taken: nearly always that is enough."""
        if self._request_id is None:
            return None
        with sessions.begin() as session:
            return self.answer(session)

    def answer(self, session: Session) -> CredentialView | None:
        """What the request was answered; None where it is new. Raises Refusal ``idempotency_key_reused``.

        Only while the log is taken does None mean that nobody else is carrying it out.
        """
        if self._request_id is None:
            return None
        kept = session.get(IdempotentAnswer, self._request_id, populate_existing=True)
        if kept is None or kept.answered_at + KEPT_FOR < log_time(session):
            return None
        if not self._is_of(kept.fingerprint):
            detail = "This Idempotency-Key was used for another request within 24 hours; take a new one."
            raise Refusal(Code.IDEMPOTENCY_KEY_REUSED, detail, field="Idempotency-Key")
        return _VIEW.validate_python(kept.answer)

    def _is_of(self, fingerprint: str) -> bool:
        # A KEK is asked only where the request is another one, or the active KEK was another one then.
        return hmac.compare_digest(fingerprint, self._mac) or self._keyring.is_mac_of(fingerprint, self._request)

    def keep(self, session: Session, answer: CredentialView) -> None:
        """Remember the answer, in the transaction that carries the request out."""
        if self._request_id is None:
            return
        session.execute(delete(IdempotentAnswer).where(col(IdempotentAnswer.request_id) == self._request_id))
        session.add(
            IdempotentAnswer(
                request_id=self._request_id,
                fingerprint=self._mac,
                answer=_by_name(answer),
                answered_at=log_time(session),
            )
        )
        session.flush()


def _by_name(answer: CredentialView) -> dict[str, object]:
    # Not by position: a version of ours with another field will read it tomorrow.
    named = dict(zip(CredentialView._fields, _VIEW.dump_python(answer, mode="json"), strict=True))
    # And the version before this one reads it today: of a key that has just come nobody has reported anything.
    return {name: value for name, value in named.items() if name != "health" or value is not None}


def once_by(keyring: Keyring, caller: Caller, idempotency_key: str | None, *request: str | None) -> Once:
    """The request of this caller with this key; callers do not get in each other's way."""
    its_key = json.dumps([caller.org_id, caller.id, idempotency_key]).encode()
    request_id = None if idempotency_key is None else hashlib.sha256(its_key).hexdigest()
    return Once(keyring, request_id, json.dumps(request).encode())


def forget_answers(session: Session) -> int:
    """Drop the answers that are kept long enough; how many there were."""
    old = delete(IdempotentAnswer).where(col(IdempotentAnswer.answered_at) < func.clock_timestamp() - KEPT_FOR)
    return session.execute(old).rowcount  # type: ignore[attr-defined, no-any-return]
