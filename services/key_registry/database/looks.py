"""One look at all that decides which key applies, of several uses at once: one statement, so it is of one moment.

SQL by hand, for runners ask this all the time: read through the models it took twenty round trips, and ten times the
processor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, text

from services.domain.resolution import Use
from services.domain.scope import Interval, PlanPeriod, Scope, ScopeType
from services.key_registry.database.plan_periods import periods_from_json
from services.key_registry.database.secrets import StoredSecret
from services.key_registry.keyring.envelopes import SealedSecret


class Question(NamedTuple):
    """Which use a look is for, whether of now, whatever it says, and whether the key is to be opened."""

    use: Use
    now: bool
    opens: bool


class KeyFound(NamedTuple):
    """A key in one of the use's scopes: named as the columns of ``CredentialRow``, when it is active, and its secret
    where the key is to be opened, unless that is lost."""

    credential_id: str
    org_id: str
    scope_type: str
    scope_id: str
    provider: str
    hint: str
    last_used_at: datetime | None
    active: tuple[Interval, ...]
    secret: StoredSecret | None


class Found(NamedTuple):
    """What a look tells: the database's clock and the log's last time, as which cards are published, what decides."""

    clock: datetime
    last_at: datetime
    cards: Sequence[str]
    """Their names, in the order in which they were published."""
    plans: tuple[PlanPeriod, ...]
    keys: Sequence[KeyFound]


# The places are the scopes of the uses, each of which leads to one slot. Keys that had ended before the time that is
# asked about cannot apply; that the others do is not decided here.
_LOOK = text("""
WITH moment AS MATERIALIZED (
  SELECT clock_timestamp() AS clock, last_at, (SELECT array_agg(card ORDER BY seq) FROM registry.rate_card) AS cards
  FROM registry.log_head LIMIT 1
)
SELECT p.use, p.org_id, p.scope_type, p.scope_id, p.provider, m.clock, m.last_at, m.cards,
  CASE p.scope_type WHEN 'organization' THEN (SELECT periods FROM registry.plan_history h WHERE h.org_id = p.org_id) END
    AS periods,
  c.credential_id, c.hint, c.last_used_at, i.active_from, i.active_to,
  s.version, s.format_version, s.kek_id, s.wrapped_key, s.wrap_nonce, s.ciphertext, s.nonce
FROM unnest(
    CAST(:uses AS int[]), CAST(:org_ids AS text[]), CAST(:scope_types AS text[]), CAST(:scope_ids AS text[]),
    CAST(:providers AS text[]), CAST(:times AS timestamptz[]), CAST(:opens AS boolean[])
  ) AS p (use, org_id, scope_type, scope_id, provider, at, opens)
  CROSS JOIN moment m
  LEFT JOIN (
    registry.credential c JOIN registry.credential_interval i ON i.credential_id = c.credential_id
  ) ON c.org_id = p.org_id AND c.provider = p.provider AND c.scope_type = p.scope_type AND c.scope_id = p.scope_id
    AND (i.active_to IS NULL OR i.active_to > coalesce(p.at, statement_timestamp()))
  LEFT JOIN registry.secret_version s ON p.opens AND s.credential_id = c.credential_id
    AND s.restorable_until IS NULL AND s.destroyed_at IS NULL
ORDER BY p.use, c.created_seq, i.active_from
""")


def look(connection: Connection, questions: Sequence[Question]) -> Sequence[Found]:
    """What there is to each question, in their order."""
    rows = connection.execute(_LOOK, _places(questions)).all()
    return [_found(list(of_use)) for _, of_use in groupby(rows, key=attrgetter("use"))]


class _Place(NamedTuple):
    uses: int
    org_ids: str
    scope_types: str
    scope_ids: str
    providers: str
    times: datetime | None
    opens: bool


def _places(questions: Iterable[Question]) -> dict[str, list[Any]]:
    places = [
        _Place(number, use.org_id, scope.type.value, scope.id, use.provider, None if now else use.at, opens)
        for number, (use, now, opens) in enumerate(questions)
        for scope in _scopes(use)
    ]
    return dict(zip(_Place._fields, map(list, zip(*places, strict=True)), strict=True))


def _scopes(use: Use) -> Iterator[Scope]:
    # Every use has an organization's, so that there is an answer to each question.
    return (scope for level in ScopeType if (scope := use.scope(level)) is not None)


def _found(rows: Sequence[Row[Any]]) -> Found:
    first, held = rows[0], [row for row in rows if row.credential_id is not None]
    plans = next((periods_from_json(row.periods) for row in rows if row.periods is not None), ())
    keys = [_key(list(of_key)) for _, of_key in groupby(held, key=attrgetter("credential_id"))]
    return Found(first.clock, first.last_at, first.cards or (), plans, keys)


def _key(rows: Sequence[Row[Any]]) -> KeyFound:
    key = rows[0]
    return KeyFound(
        credential_id=key.credential_id,
        org_id=key.org_id,
        scope_type=key.scope_type,
        scope_id=key.scope_id,
        provider=key.provider,
        hint=key.hint,
        last_used_at=key.last_used_at,
        active=tuple(Interval(row.active_from, row.active_to) for row in rows),
        secret=_secret(key),
    )


def _secret(key: Row[Any]) -> StoredSecret | None:
    if key.version is None or key.wrapped_key is None:
        return None
    return StoredSecret(key.version, SealedSecret(*(getattr(key, name) for name in SealedSecret._fields)))
