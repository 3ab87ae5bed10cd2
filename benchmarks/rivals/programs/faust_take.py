"""Faust's ``take``: up to 100 records at once, as its documentation has it for writing to a database in batches."""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection
from rivals.programs.agreed import SECONDS
from rivals.programs.faust_parts import OwnKeys, make_app, usage_topic, write
from rivals.programs.told import DSN

app = make_app("rivals-faust-take")
own_keys = OwnKeys(app)


@app.agent(usage_topic(app))
async def charge_usage(stream: Any) -> None:
    """The records of a batch are acknowledged when the next one is asked for."""
    await own_keys.read()
    async with await AsyncConnection.connect(DSN, autocommit=True) as database:
        async for values in stream.take(100, within=SECONDS):
            await write(database, "faust_take", own_keys.charge(values))


if __name__ == "__main__":
    app.main()
