"""Everything the demo shows and checks, read from the ledger by SQL: no number comes from the generator."""

from __future__ import annotations

from datetime import date
from typing import Any, LiteralString, NamedTuple

from psycopg import Connection
from psycopg.rows import dict_row

from services.domain.usage import Identity


class Progress(NamedTuple):
    """What became of the events that are covered so far."""

    events: int
    recorded: int
    duplicates: int
    dead_letters: int


class Money(NamedTuple):
    """Sums in mc under one heading."""

    label: tuple[str, ...]
    entries: int
    list_mc: int
    charged_mc: int
    saved_mc: int


class Day(NamedTuple):
    """Sums of one UTC day, in mc."""

    day: date
    list_mc: int
    charged_mc: int


_SUMS = "count(*) FILTER (WHERE kind = 'charge'), sum(list_mc), sum(charged_mc), sum(saved_mc)"
# An entry that no reversal names is the truth about its event.
_CURRENT = """
SELECT * FROM ledger.entries AS entry
WHERE kind <> 'reversal'
  AND NOT EXISTS (SELECT FROM ledger.entries AS r WHERE r.kind = 'reversal' AND r.adjusts = entry.entry_id)
"""


def progress(ledger: Connection[Any]) -> Progress:
    """What is covered so far."""
    return Progress(
        *_row(
            ledger,
            "SELECT coalesce(sum(events), 0)::bigint, coalesce(sum(recorded), 0)::bigint,"
            " coalesce(sum(duplicates), 0)::bigint, coalesce(sum(dead_letters), 0)::bigint FROM ledger.covered_range",
        )
    )


def followed_keys(ledger: Connection[Any], credential_ids: list[str]) -> bool:
    """Whether the metering knows all these keys, and has put right what they change about earlier entries."""
    keys = [f"credential:{credential_id}" for credential_id in credential_ids]
    found = ledger.execute(
        "SELECT count(DISTINCT key), coalesce(max(seq), 0) <= (SELECT rerated_seq FROM ledger.fence)"
        " FROM ledger.registry_change WHERE key = ANY(%s)",
        [keys],
    ).fetchone()
    return found == (len(keys), True)


def by_organization(ledger: Connection[Any]) -> list[Money]:
    """One line for each organization."""
    return _money(ledger, f"SELECT ARRAY[org_id], {_SUMS} FROM ledger.entries GROUP BY org_id ORDER BY org_id")


def by_event_type(ledger: Connection[Any]) -> list[Money]:
    """One line for each event type."""
    return _money(ledger, f"SELECT ARRAY[event_type], {_SUMS} FROM ledger.entries GROUP BY event_type ORDER BY 1")


def by_key(ledger: Connection[Any]) -> list[Money]:
    """One line for each provider and level of key; model use alone. Entries are those that are current."""
    return _money(
        ledger,
        "SELECT ARRAY[provider, coalesce(byok_scope, key_source)], count(*), sum(list_mc),"
        f" sum(charged_mc), sum(saved_mc) FROM ({_CURRENT}) AS truth WHERE provider IS NOT NULL"
        " GROUP BY provider, coalesce(byok_scope, key_source) ORDER BY 1",
    )


def by_day(ledger: Connection[Any]) -> list[Day]:
    """One line for each UTC day."""
    rows = ledger.execute(
        "SELECT (occurred_at AT TIME ZONE 'UTC')::date AS day, sum(list_mc), sum(charged_mc) FROM ledger.entries"
        " GROUP BY 1 ORDER BY 1"
    )
    return [Day(day, *map(int, sums)) for day, *sums in rows]


def dead_letters(ledger: Connection[Any]) -> list[tuple[str, int, int, str]]:
    """Reason, how many, in how many of them a key was masked, and one of the details; the most frequent first."""
    return ledger.execute(
        "SELECT reason, count(*), count(*) FILTER (WHERE masked), min(detail) FROM ledger.dead_letters"
        " GROUP BY reason ORDER BY 2 DESC, 1"
    ).fetchall()


def corrections(ledger: Connection[Any]) -> tuple[int, int]:
    """How many entries late knowledge has put right, and by how many mc the charges fell."""
    count, fallen = _row(
        ledger,
        "SELECT count(*) FILTER (WHERE kind = 'correction'), coalesce(-sum(charged_mc), 0)"
        " FROM ledger.entries WHERE kind <> 'charge'",
    )
    return count, int(fallen)


def flags(ledger: Connection[Any]) -> list[tuple[str, int]]:
    """How many current entries carry each flag."""
    return ledger.execute(
        f"SELECT flag, count(*) FROM ({_CURRENT}) AS truth, unnest(flags) AS flag GROUP BY flag ORDER BY flag"
    ).fetchall()


def current_entries(ledger: Connection[Any]) -> dict[Identity, dict[str, Any]]:
    """The current entry of every event."""
    with ledger.cursor(row_factory=dict_row) as cursor:
        cursor.execute(_CURRENT)
        return {Identity(row["org_id"], row["event_source"], row["event_id"]): row for row in cursor}


def an_entry_worth_explaining(ledger: Connection[Any]) -> str | None:
    """The id of the largest current token usage with an own key, a corrected one first; None where there is none."""
    found = ledger.execute(
        f"SELECT entry_id::text FROM ({_CURRENT}) AS truth WHERE key_source = 'byok'"
        " AND event_type LIKE 'usage.token_usage.%' ORDER BY kind = 'correction' DESC, saved_mc DESC, entry_id LIMIT 1"
    ).fetchone()
    return None if found is None else found[0]


def _money(ledger: Connection[Any], query: LiteralString) -> list[Money]:
    # PostgreSQL sums bigint as numeric, so no sum overflows; each is a whole number.
    return [Money(tuple(label), *map(int, sums)) for label, *sums in ledger.execute(query)]


def _row(ledger: Connection[Any], query: LiteralString) -> tuple[Any, ...]:
    """The one row of a query of sums."""
    (row,) = ledger.execute(query)
    return tuple(row)
