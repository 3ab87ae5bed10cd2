"""The pause of metering, and who does not count towards it, as rows of the ledger database: for every worker, and kept
through any restart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from psycopg import Connection
from psycopg.rows import class_row

from services.metering.dead_letters.share import Excess

_CAUSES_SHOWN = 5
_COLUMNS = "pause_id, paused_at, events, dead_letters, window_seconds, causes"
_IN_FORCE = f"SELECT {_COLUMNS} FROM ledger.metering_pause WHERE resumed_at IS NULL"
# Another worker may have been faster; then its pause is in force, and this one's adds nothing.
_BEGIN = f"""
INSERT INTO ledger.metering_pause (events, dead_letters, window_seconds, causes)
SELECT %(events)s, %(dead_letters)s, %(window_seconds)s, coalesce(jsonb_agg(to_jsonb(c)), '[]') FROM (
  SELECT reason, event_source, count(*) AS dead_letters FROM ledger.dead_letter
  WHERE failed_at > now() - make_interval(secs => %(window_seconds)s)
  GROUP BY reason, event_source ORDER BY count(*) DESC LIMIT {_CAUSES_SHOWN}) AS c
ON CONFLICT DO NOTHING
"""
_END = f"UPDATE ledger.metering_pause SET resumed_at = now() WHERE resumed_at IS NULL RETURNING {_COLUMNS}"

_IGNORED = "SELECT org_id, ignored_at FROM ledger.ignored_organization WHERE counted_at IS NULL ORDER BY ignored_at"
_IGNORE = "INSERT INTO ledger.ignored_organization (org_id) VALUES (%s) ON CONFLICT DO NOTHING"
_COUNT_AGAIN = "UPDATE ledger.ignored_organization SET counted_at = now() WHERE counted_at IS NULL AND org_id = %s"
_WORST = """
SELECT org_id, reason, count(*) AS dead_letters FROM ledger.dead_letter
WHERE failed_at > now() - interval '1 hour' GROUP BY org_id, reason ORDER BY count(*) DESC LIMIT %s
"""


class Pause(NamedTuple):
    """Why metering is paused: what one worker had booked within ``window_seconds`` when it was too much."""

    pause_id: int
    paused_at: datetime
    events: int
    dead_letters: int
    window_seconds: int
    causes: Sequence[dict[str, Any]]
    """The most frequent of every worker's dead letters: reason, event_source (None: not readable), dead_letters."""

    @property
    def sentence(self) -> str:
        """What happened and what to do, without anything that a producer wrote."""
        reasons = dict.fromkeys(cause["reason"] for cause in self.causes)
        return (
            f"metering is paused since {self.paused_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}: "
            f"{self.dead_letters:,} of {self.events:,} events became dead letters within {self.window_seconds:,} s "
            f"({', '.join(reasons) or 'no reason is known'}); nothing is lost, the topic keeps what waits; "
            "stop or mend the producer, then run `byok dead-letters resume`"
        )


def in_force(connection: Connection[Any]) -> Pause | None:
    """The pause that holds now."""
    with connection.cursor(row_factory=class_row(Pause)) as cursor:
        return cursor.execute(_IN_FORCE).fetchone()


def begin(connection: Connection[Any], excess: Excess, window_seconds: int) -> None:
    """Pause every worker, unless they are paused already."""
    connection.execute(_BEGIN, excess._asdict() | {"window_seconds": window_seconds})


def end(connection: Connection[Any]) -> Pause | None:
    """Let every worker go on; the pause that ended with this, None where none was in force."""
    with connection.cursor(row_factory=class_row(Pause)) as cursor:
        return cursor.execute(_END).fetchone()


class Ignored(NamedTuple):
    """An organization whose events do not count towards a pause, and since when."""

    org_id: str
    ignored_at: datetime


class DeadLetterCount(NamedTuple):
    """An organization's dead letters for one reason within the last hour; None: whose they are is not known."""

    org_id: str | None
    reason: str
    dead_letters: int


def ignored(connection: Connection[Any]) -> list[Ignored]:
    """Whose events do not count now."""
    with connection.cursor(row_factory=class_row(Ignored)) as cursor:
        return cursor.execute(_IGNORED).fetchall()


def ignore(connection: Connection[Any], org_id: str) -> None:
    """Count no event of the organization towards a pause, until told otherwise."""
    connection.execute(_IGNORE, (org_id,))


def count_again(connection: Connection[Any], org_id: str) -> bool:
    """Count its events as everybody's; False where they counted already."""
    return connection.execute(_COUNT_AGAIN, (org_id,)).rowcount > 0


def worst(connection: Connection[Any], limit: int) -> list[DeadLetterCount]:
    """Who had the most dead letters within the last hour, and why."""
    with connection.cursor(row_factory=class_row(DeadLetterCount)) as cursor:
        return cursor.execute(_WORST, (limit,)).fetchall()
