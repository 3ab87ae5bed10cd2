"""Key-encryption keys that are a network away: while one of them is asked, nobody is held up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from services.domain.permissions import Caller
from services.domain.scope import Plan, Scope, ScopeType
from services.key_registry.handlers.credentials import NewCredential, add_credential
from services.key_registry.handlers.plans import set_plan
from services.key_registry.handlers.registry import Registry
from services.key_registry.handlers.rotation import rotate_credential, undo_rotation
from services.key_registry.keyring.envelopes import Keyring
from services.key_registry.keyring.keks import HeldKeks, WrappedKey
from services.key_registry.log.changes import hint
from services.key_registry.rules.refusals import Code
from services.runtime.refusals import Refusal

SERVICE = Caller("service", "*", None, {}, frozenset({"credentials:write", "plans:write"}))
FIRST, SECOND, THIRD = (SecretStr(f"sk-made-up-for-the-test-{number}") for number in range(3))


class DistantKeks:
    """KEKs that look, whenever one is asked, whether somebody holds the log's head meanwhile."""

    def __init__(self, keks: HeldKeks, dsn: str) -> None:
        self._keks = keks
        self._dsn = dsn
        self.asked: list[str] = []
        self.asked_while_held: list[str] = []
        self.meanwhile: list[Callable[[], object]] = []
        """What others do while we are asked, one after the other."""

    @property
    def active_id(self) -> str:
        return self._keks.active_id

    @property
    def ids(self) -> tuple[str, ...]:
        return self._keks.ids

    def now(self) -> DistantKeks:
        return self

    def wrap(self, kek_id: str, data_key: bytes, associated_data: bytes) -> WrappedKey:
        self._note("wrap")
        return self._keks.wrap(kek_id, data_key, associated_data)

    def unwrap(self, kek_id: str, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        self._note("unwrap")
        return self._keks.unwrap(kek_id, wrapped, associated_data)

    def mac(self, kek_id: str, message: bytes) -> bytes:
        self._note("mac")
        return self._keks.mac(kek_id, message)

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if self.meanwhile:
            self.meanwhile.pop()()
        with psycopg.connect(self._dsn) as connection:
            try:
                connection.execute("SELECT 1 FROM registry.log_head FOR UPDATE NOWAIT")
            except psycopg.errors.LockNotAvailable:
                self.asked_while_held.append(what)


@pytest.fixture
def keks(database: Any) -> DistantKeks:
    return DistantKeks(HeldKeks("kek-1", {"kek-1": b"k" * 32}), database.dsn)


@pytest.fixture
def distant(registry: Registry, keks: DistantKeks, org: str) -> Iterator[Registry]:
    set_plan(registry, SERVICE, org, Plan.PRO)
    yield replace(registry, keyring=Keyring(keks))
    assert keks.asked
    assert not keks.asked_while_held


def added(registry: Registry, org: str, secret: SecretStr = FIRST, once: str | None = None) -> str:
    new = NewCredential(org, Scope(ScopeType.TEAM, "growth"), "openai", secret)
    return add_credential(registry, SERVICE, new, once).credential_id


def test_adding_holds_nobody_up(distant: Registry, org: str) -> None:
    credential_id = added(distant, org, once=f"add-{org}")
    # Sent again, it is answered without doing it again; with another key it is another request.
    assert added(distant, org, once=f"add-{org}") == credential_id
    with pytest.raises(Refusal, match="idempotency_key_reused"):
        added(distant, org, SECOND, once=f"add-{org}")
    with pytest.raises(Refusal, match="credential_exists"):
        added(distant, org)


def test_rotating_and_taking_it_back_hold_nobody_up(distant: Registry, org: str) -> None:
    credential_id = added(distant, org)
    for secret, once in ((SECOND, None), (THIRD, f"rotate-{org}"), (THIRD, f"rotate-{org}")):
        rotate_credential(distant, SERVICE, credential_id, secret, idempotency_key=once)
    with pytest.raises(Refusal) as unchanged:
        rotate_credential(distant, SERVICE, credential_id, THIRD)
    assert unchanged.value.code is Code.KEY_UNCHANGED
    undo_rotation(distant, SERVICE, credential_id)
    with pytest.raises(Refusal) as unchanged:
        rotate_credential(distant, SERVICE, credential_id, SECOND)
    assert unchanged.value.code is Code.KEY_UNCHANGED


def test_what_others_do_while_a_kek_is_asked_is_seen(distant: Registry, keks: DistantKeks, org: str) -> None:
    credential_id = added(distant, org)

    def rotate(secret: SecretStr) -> str | None:
        return rotate_credential(distant, SERVICE, credential_id, secret).hint

    keks.meanwhile = [lambda: rotate(THIRD)]
    assert rotate(SECOND) == hint(SECOND.get_secret_value())
    # The other's rotation came first, so its key is the one before.
    assert undo_rotation(distant, SERVICE, credential_id).hint == hint(THIRD.get_secret_value())
    keks.meanwhile = [lambda: rotate(FIRST)]
    with pytest.raises(Refusal, match="key_unchanged"):
        rotate(FIRST)
    keks.meanwhile = [lambda: rotate(SECOND)]
    assert undo_rotation(distant, SERVICE, credential_id).hint == hint(FIRST.get_secret_value())


def test_a_request_that_is_sent_twice_at_once_is_carried_out_once(
    distant: Registry, keks: DistantKeks, org: str
) -> None:
    others: list[str] = []
    keks.meanwhile = [lambda: others.append(added(distant, org, once=f"add-{org}"))]
    assert [added(distant, org, once=f"add-{org}")] == others
