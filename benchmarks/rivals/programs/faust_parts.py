"""What both of Faust's programs are made of: the app, the keys, and writing rows with psycopg."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import faust
from psycopg import AsyncConnection
from rivals.programs.agreed import SCHEMA, SECONDS, SESSION_SECONDS
from rivals.programs.naive import Prices, Row, events_of, key_of
from rivals.programs.told import DSN, KAFKA, PRICES, USAGE


def make_app(name: str) -> faust.App:
    """An app that reads the topic as JSON; it neither makes topics nor elects leaders."""
    return faust.App(
        name,
        broker=f"kafka://{KAFKA}",
        value_serializer="json",
        broker_session_timeout=SESSION_SECONDS,
        broker_commit_interval=SECONDS,
        topic_allow_declare=False,
        topic_disable_leader=True,
    )


def usage_topic(app: faust.App) -> Any:
    """The usage, a record decoded to one event or to many."""
    return app.topic(USAGE, value_serializer="json")


class OwnKeys:
    """The keys as they stand now, read again by a timer of the app."""

    def __init__(self, app: faust.App) -> None:
        self._keys: set[str] = set()
        self._prices = Prices(PRICES)
        app.timer(interval=SECONDS)(self.read)

    async def read(self) -> None:
        """Read them all."""
        async with await AsyncConnection.connect(DSN) as database:
            self._keys = {key async for (key,) in await database.execute(f"SELECT key FROM {SCHEMA}.own_key")}

    def charge(self, values: Iterable[Any]) -> list[Row]:
        """Rows of all events in the values of some records."""
        return [
            self._prices.charge(event, own_key=key_of(event) in self._keys)
            for value in values
            for event in events_of(value)
        ]


async def write(database: AsyncConnection[Any], table: str, rows: Iterable[Row]) -> None:
    """All of them in one transaction, in the quickest way that psycopg has."""
    copy = f"COPY {SCHEMA}.{table} (event_id, org_id, charged_mc, saved_mc) FROM STDIN"
    async with database.transaction(), database.cursor() as cursor, cursor.copy(copy) as target:
        for row in rows:
            await target.write_row(row)
