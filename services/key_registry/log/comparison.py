"""Holds the registry's log against those who were sent it: the topic, and the ledger, which keeps what it priced with.

Everything that they have was committed here before it was sent, so what they have and this database has not was lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import psycopg
from psycopg import Connection

from schemas.topics import REGISTRY_CHANGES
from services.books import registry_log
from services.books.registry_log import Recorded
from services.key_registry.rules.completeness import LogBehindError
from services.runtime.database import connect
from services.runtime.logs import logger

_log = logger(__name__)

_TOPIC, _LEDGER = f"the topic {REGISTRY_CHANGES.name}", "the ledger"
_MEND = "see docs/runbook.md, 'Registry forked'"


class NumberedChange(NamedTuple):
    """One change as somebody else has it."""

    seq: int
    payload: bytes


def history_of(ledger_dsn: str) -> list[Recorded]:
    """Every change that the ledger has, in order. Raises psycopg.Error."""
    with connect(ledger_dsn, "key-registry-rebuild") as ledger:
        return list(registry_log.recorded(ledger))


def compare_with_topic(database: Connection[Any], records: Iterable[Iterable[bytes]]) -> None:
    """Raise LogBehindError where one of ``records``, batches of values of the topic, is not in the registry's log.

    Records that are no change are passed over: they take no number.
    """
    newest = 0
    for values in records:
        newest = max(newest, _newest_missing(database, _TOPIC, _numbered(values)))
    _require_none(database, _TOPIC, newest)


def newest_of(records: Iterable[Iterable[bytes]]) -> int:
    """The highest number of a change in ``records``, batches of values of the topic; 0 where there is none."""
    return max((change.seq for values in records for change in _numbered(values)), default=0)


def compare_with_ledger(database: Connection[Any], ledger_dsn: str) -> None:
    """Raise LogBehindError where the newest change that the ledger has is not in the registry's log.

    A ledger that does not answer says nothing; then the topic alone is asked.
    """
    try:
        with connect(ledger_dsn, "key-registry-comparison", autocommit=True) as ledger:
            newest = registry_log.newest(ledger)
    except psycopg.Error as error:
        _log.warning("the log cannot be compared with the ledger", error=type(error).__name__)
        return
    known = [] if newest is None else [NumberedChange(newest.seq, newest.payload)]
    _require_none(database, _LEDGER, _newest_missing(database, _LEDGER, known))


def _newest_missing(database: Connection[Any], where: str, changes: Iterable[NumberedChange]) -> int:
    """The highest number that the log lacks; 0 where it has all of them."""
    others = list(changes)
    found = database.execute(
        "SELECT seq, payload FROM registry.log WHERE seq = ANY(%s)", ([change.seq for change in others],)
    )
    ours = {seq: bytes(payload) for seq, payload in found}
    for change in others:
        if ours.get(change.seq, change.payload) != change.payload:
            raise LogBehindError(
                f"change {change.seq} of the registry's log is another one than {where} has: two registries write to"
                f" one topic, or this database was restored from a backup and changed since; {_MEND}"
            )
    return max((change.seq for change in others if change.seq not in ours), default=0)


def _require_none(database: Connection[Any], where: str, newest: int) -> None:
    if newest:
        (last_seq,) = database.execute("SELECT last_seq FROM registry.log_head").fetchone() or (0,)
        raise LogBehindError(
            f"the registry's log ends with change {last_seq}, and {where} has change {newest}: this database was"
            f" restored from a backup, or is that of another registry; run `byok registry rebuild`, {_MEND}"
        )


def _numbered(values: Iterable[bytes]) -> Iterable[NumberedChange]:
    for value in values:
        try:
            seq = json.loads(value)["seq"]
        except (ValueError, TypeError, LookupError):
            continue
        if type(seq) is int:
            yield NumberedChange(seq, value)
