"""What each key-encryption key still holds: counting it, moving it under the active one, and retiring one.

``registry.secret_version`` is the only table with ciphertexts. Moving is online and can be broken off anywhere: a few
rows at a time, in a transaction each; what is done is under the new key, and the next run goes on with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from psycopg import Connection
from psycopg.errors import LockNotAvailable
from psycopg.rows import dict_row

from services.key_registry.keyring.envelopes import Binding, Keyring, SealedSecret
from services.key_registry.keyring.kek_file import remove_kek
from services.key_registry.keyring.keks import UnusableSecret
from services.runtime.database import arrays

ROWS_AT_ONCE = 500
_LIMITS = "SET lock_timeout = '5s'; SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '10s'"

_COUNTS = "SELECT kek_id, count(*) FROM registry.secret_version WHERE destroyed_at IS NULL GROUP BY kek_id"
_NEXT = """
SELECT c.org_id, c.scope_type, c.scope_id, c.provider, v.credential_id, v.version,
  v.format_version, v.kek_id, v.wrapped_key, v.wrap_nonce, v.ciphertext, v.nonce
FROM registry.secret_version v JOIN registry.credential c USING (credential_id)
WHERE v.destroyed_at IS NULL AND v.kek_id <> %(active)s AND (v.credential_id, v.version) > (%(after_id)s, %(after)s)
ORDER BY v.credential_id, v.version LIMIT %(rows)s FOR UPDATE OF v
"""
_binding, _sealed = itemgetter(*Binding._fields), itemgetter(*SealedSecret._fields)
_REWRAP = """
UPDATE registry.secret_version v SET kek_id = new.kek_id, wrapped_key = new.wrapped_key, wrap_nonce = new.wrap_nonce
FROM unnest(%s::text[], %s::int[], %s::text[], %s::bytea[], %s::bytea[])
  AS new (credential_id, version, kek_id, wrapped_key, wrap_nonce)
WHERE v.credential_id = new.credential_id AND v.version = new.version
"""


class KekInUse(Exception):
    """A key-encryption key cannot be retired; the message says why."""


class Unusable(NamedTuple):
    """A secret that cannot be moved, since it cannot be opened either."""

    credential_id: str
    version: int
    why: str


class _Row(NamedTuple):
    binding: Binding
    sealed: SealedSecret


class Rewrapped(NamedTuple):
    """What a run has done; ``left`` are the secrets that are not under the active key now."""

    active_id: str
    moved: int
    left: int
    unusable: tuple[Unusable, ...]


def count_secrets(connection: Connection[Any]) -> dict[str, int]:
    """How many secrets are under each KEK. Destroyed ones are left out: nothing opens them any more."""
    return dict(connection.execute(_COUNTS).fetchall())


def rewrap(
    connection: Connection[Any],
    keyring: Keyring,
    report: Callable[[int, int], None] = lambda _done, _all: None,
    *,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Rewrapped:
    """Put every data key under the active KEK. ``report`` hears how many are done, and of how many.

    ``connection`` is in autocommit. Rows that somebody holds are passed over at first and waited for at the end, so
    nobody who revokes a key waits for more than one transaction of ours.
    """
    connection.execute(_LIMITS)
    active_id, moved, unusable = keyring.active_id, 0, dict[tuple[str, int], Unusable]()
    every = _elsewhere(connection, active_id)
    for passing_over in (True, False):
        for done, failed in _passes(connection, keyring, active_id, rows_at_once, passing_over=passing_over):
            moved += done
            unusable |= {(each.credential_id, each.version): each for each in failed}
            report(moved, every)
    return Rewrapped(active_id, moved, _elsewhere(connection, active_id), tuple(unusable.values()))


def _passes(
    connection: Connection[Any], keyring: Keyring, active_id: str, rows_at_once: int, *, passing_over: bool
) -> Iterator[tuple[int, list[Unusable]]]:
    """Once over all rows; of each transaction how many it moved, and what it could not."""
    place: tuple[str, int] | None = ("", 0)
    while place is not None:
        try:
            with connection.transaction():
                rows = _next_rows(connection, active_id, place, rows_at_once, passing_over=passing_over)
                done, failed = _moved(keyring, rows)
                if done:
                    connection.execute(_REWRAP, arrays(done))
        except LockNotAvailable:
            # Somebody holds a row for longer than we hold up others. It counts as left.
            return
        place = (rows[-1].binding.credential_id, rows[-1].binding.version) if rows else None
        yield len(done), failed


def retire(connection: Connection[Any], file: Path, kek_id: str) -> None:
    """Take a KEK that holds nothing out of the keyring file.

    Raises KekInUse where it holds secrets, or the registry is too busy; SettingsError where it is active or not in the
    file. Whoever seals a secret holds the log's head, which is held here as well: so none is under way to the database
    under this KEK.
    """
    connection.execute(_LIMITS)
    with connection.transaction():
        _hold_log(connection)
        if held := count_secrets(connection).get(kek_id, 0):
            raise KekInUse(f"{held:,} secrets are under {kek_id}; run byok kek rewrap first")
        remove_kek(file, kek_id)


def _hold_log(connection: Connection[Any]) -> None:
    try:
        connection.execute("SELECT 1 FROM registry.log_head FOR UPDATE")
    except LockNotAvailable:
        raise KekInUse("somebody was changing keys all the time; try again") from None


def _elsewhere(connection: Connection[Any], active_id: str) -> int:
    return sum(count for kek_id, count in count_secrets(connection).items() if kek_id != active_id)


def _next_rows(
    connection: Connection[Any], active_id: str, place: tuple[str, int], rows: int, *, passing_over: bool
) -> list[_Row]:
    values = {"active": active_id, "after_id": place[0], "after": place[1], "rows": rows}
    found = connection.cursor(row_factory=dict_row).execute(_NEXT + ("SKIP LOCKED" if passing_over else ""), values)
    return [_Row(Binding(*_binding(row)), SealedSecret(*_sealed(row))) for row in found]


def _moved(keyring: Keyring, rows: Iterable[_Row]) -> tuple[list[tuple[Any, ...]], list[Unusable]]:
    done, failed = list[tuple[Any, ...]](), list[Unusable]()
    for binding, sealed in rows:
        try:
            new = keyring.rewrap(sealed, binding)
        except UnusableSecret as error:
            failed.append(Unusable(binding.credential_id, binding.version, str(error)))
        else:
            done.append((binding.credential_id, binding.version, new.kek_id, new.wrapped_key, new.wrap_nonce))
    return done, failed
