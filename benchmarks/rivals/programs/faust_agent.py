"""A plain Faust agent: record by record, as the first page of its documentation has it."""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection
from rivals.programs.faust_parts import OwnKeys, make_app, usage_topic, write
from rivals.programs.told import DSN

app = make_app("rivals-faust-agent")
own_keys = OwnKeys(app)


@app.agent(usage_topic(app))
async def charge_usage(stream: Any) -> None:
    """Each record is acknowledged when the next one is asked for."""
    await own_keys.read()
    async with await AsyncConnection.connect(DSN, autocommit=True) as database:
        async for value in stream:
            await write(database, "faust_agent", own_keys.charge([value]))


if __name__ == "__main__":
    app.main()
