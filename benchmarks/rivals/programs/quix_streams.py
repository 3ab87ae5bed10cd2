"""Quix Streams: its lookup join with PostgreSQL, and its sink for PostgreSQL, which writes when offsets are due."""

from __future__ import annotations

from typing import Any

from psycopg.conninfo import conninfo_to_dict
from quixstreams import Application
from quixstreams.dataframe.joins.lookups.postgresql import PostgresLookup
from quixstreams.sinks.community.postgresql import PostgreSQLSink
from rivals.programs.agreed import SCHEMA, SECONDS, SESSION_SECONDS
from rivals.programs.naive import Prices, events_of, key_of
from rivals.programs.told import DSN, KAFKA, PRICES, USAGE


def main() -> None:
    """Run until told to stop."""
    database, prices = conninfo_to_dict(DSN), Prices(PRICES)

    def row(event: dict[str, Any]) -> dict[str, Any]:
        return prices.charge(event, own_key=event["own_key"] is not None)._asdict()

    app = Application(
        broker_address=KAFKA,
        consumer_group="rivals-quix-streams",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        commit_interval=SECONDS,
        commit_every=500,
        consumer_extra_config={"session.timeout.ms": 1_000 * SESSION_SECONDS},
    )
    lookup = PostgresLookup(**database)
    own_key = lookup.field(table="own_key", columns=["key"], on="key", schema=SCHEMA, ttl=SECONDS)
    usage = app.dataframe(app.topic(USAGE, value_deserializer="json"))
    events = usage.apply(events_of, expand=True)
    events = events.join_lookup(lookup, {"own_key": own_key}, on=lambda event, _: key_of(event))
    sink = PostgreSQLSink(**database, table_name="quix_streams", schema_name=SCHEMA, include_metadata=False)
    events.apply(row).sink(sink)
    app.run()


if __name__ == "__main__":
    main()
