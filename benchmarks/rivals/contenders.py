"""Who takes part: how each is started, and how what it has written is read."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rivals.programs.agreed import SCHEMA


@dataclass(frozen=True)
class Contender:
    """A program that reads the topic and writes what events cost."""

    name: str
    command: tuple[str, ...]
    written: str
    """A query: how many events it has written, those that it wrote twice as two."""
    ended: str
    """A query, asked once all is written: since when that is so."""
    charged: str
    """A query: of each event whose id is like ``%(ids)s`` the id, how often it was charged, and what that comes to."""
    began: str | None = None
    """A query: when the first transaction after ``%(since)s`` began, and how many events it wrote. None where the
    program itself says when it had its first event."""
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    prepare: tuple[str, ...] = ()
    """A command that is run once before, where it runs."""
    table: str | None = None
    """The table in SCHEMA that is made for it."""
    package: str = "byok-credit-metering"


OURS = Contender(
    name="this project",
    command=(sys.executable, "-m", "services", "metering"),
    written="SELECT coalesce(sum(events), 0)::bigint FROM ledger.covered_range",
    began=(
        "SELECT recorded_at, sum(recorded)::bigint FROM ledger.covered_range WHERE recorded_at > %(since)s"
        " GROUP BY recorded_at ORDER BY recorded_at LIMIT 1"
    ),
    ended="SELECT clock_timestamp()",
    charged=(
        "SELECT event_id, count(*) FILTER (WHERE kind = 'charge'), sum(charged_mc)::bigint FROM ledger.entries"
        " WHERE event_id LIKE %(ids)s GROUP BY event_id"
    ),
)


def rivals(python: Path, kafka: str, dsn: str, prices: Path, topic: str) -> Sequence[Contender]:
    """The others, on an interpreter that has their packages."""
    environment = {
        "RIVALS_KAFKA": kafka,
        "RIVALS_DSN": dsn,
        "RIVALS_PRICES": str(prices),
        "RIVALS_USAGE": topic,
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }

    def rival(name: str, table: str, package: str, *command: str, prepare: tuple[str, ...] = ()) -> Contender:
        return Contender(
            name=name,
            command=(str(python), "-m", *command),
            written=f"SELECT count(*) FROM {SCHEMA}.{table}",
            ended=f"SELECT max(written_at) FROM {SCHEMA}.{table}",
            charged=(
                f"SELECT event_id, count(*), sum(charged_mc)::bigint FROM {SCHEMA}.{table}"
                " WHERE event_id LIKE %(ids)s GROUP BY event_id"
            ),
            environment=environment,
            prepare=(str(python), "-m", *prepare) if prepare else (),
            table=table,
            package=package,
        )

    worker = ("worker", "--without-web", "--loglevel", "warn")
    recovered = ("--recovery-directory", ".", "--snapshot-interval", "1", "--backup-interval", "0")
    return (
        rival("Faust, plain agent", "faust_agent", "faust-streaming", "rivals.programs.faust_agent", *worker),
        rival("Faust, `take(100)`", "faust_take", "faust-streaming", "rivals.programs.faust_take", *worker),
        rival("Quix Streams", "quix_streams", "quixstreams", "rivals.programs.quix_streams"),
        rival(
            "Bytewax",
            "bytewax_flow",
            "bytewax",
            *("bytewax.run", "rivals.programs.bytewax_flow:get_flow", *recovered),
            prepare=("bytewax.recovery", ".", "1"),
        ),
    )
