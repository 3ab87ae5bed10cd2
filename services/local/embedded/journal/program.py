"""The program between the clients and the embedded broker: its parts put together, and served."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path
from typing import Any

import psycopg
import uvloop

from schemas.topics import USAGE_EVENTS
from services.books.settings import LedgerDatabase
from services.local.embedded.journal.group_commit import GroupCommit
from services.local.embedded.journal.journal import Journal
from services.local.embedded.journal.proxy import BUFFER_BYTES, JournalProxy
from services.local.embedded.journal.resend import Broker, resend
from services.local.endpoints import LOOPBACK
from services.runtime.database import connect
from services.runtime.logs import configure_logs, logger

_log = logger(__name__)

_CLEAN_SECONDS = 1.0
_BOOKED = "SELECT cluster_id, partition, next_offset FROM ledger.source_partition WHERE topic = %s"


class _Ledger:
    """How far the ledger has booked the usage events, over one connection that is renewed when it breaks."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.Connection[Any] | None = None

    def booked(self) -> dict[tuple[str, int], int]:
        """By cluster id and partition, the next offset. Raises psycopg.Error."""
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._dsn, "journal", autocommit=True)
        try:
            rows = self._connection.execute(_BOOKED, [USAGE_EVENTS.name]).fetchall()
        except psycopg.errors.UndefinedTable:
            # The ledger is new, or another one than before: its schema is being made beside us.
            return {}
        return {(cluster_id, partition): next_offset for cluster_id, partition, next_offset in rows}


async def _clean(journal: Journal, commit: GroupCommit, ledger: _Ledger, cluster_id: str) -> None:
    """Delete what is booked. Whatever is away is asked again later; the journal only grows meanwhile."""
    if journal.is_empty:
        return
    try:
        booked = await asyncio.to_thread(ledger.booked)
        await commit.drop_booked(
            {partition: at for (cluster, partition), at in booked.items() if cluster == cluster_id}
        )
    except (psycopg.Error, OSError) as error:
        _log.warning("the journal cannot be shortened now", error=type(error).__name__)


async def _clean_for_ever(journal: Journal, commit: GroupCommit, ledger: _Ledger, cluster_id: str) -> None:
    while True:
        await asyncio.sleep(_CLEAN_SECONDS)
        await _clean(journal, commit, ledger, cluster_id)


async def _serve(journal: Journal, ledger: _Ledger, arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    commit = GroupCommit(journal)
    writing = asyncio.create_task(commit.run())
    cleaning = asyncio.create_task(_clean_for_ever(journal, commit, ledger, arguments.cluster_id))
    proxy = JournalProxy(arguments.broker_port, arguments.cluster_id, commit, next_entry=journal.next_entry)
    server = await asyncio.start_server(proxy.serve, LOOPBACK, arguments.port, limit=BUFFER_BYTES)
    stopping = asyncio.create_task(stop.wait())
    # Neither of the two ends but for a fault of ours; then nothing may be acknowledged any more.
    done, _ = await asyncio.wait((writing, cleaning, stopping), return_when=asyncio.FIRST_COMPLETED)
    server.close()
    await proxy.stop()
    for task in done - {stopping}:
        task.result()
    await _clean(journal, commit, ledger, arguments.cluster_id)


def main() -> None:
    """Send again what is owed, then serve until SIGTERM or SIGINT: whoever can connect finds the old records there."""
    parser = argparse.ArgumentParser(description="Keeps on disk what the embedded broker acknowledged.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--broker-port", type=int, required=True)
    parser.add_argument("--cluster-id", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    settings = LedgerDatabase.load()
    configure_logs(settings.log_level, "journal")
    ledger = _Ledger(settings.ledger_dsn.get_secret_value())
    journal = Journal(arguments.folder, arguments.cluster_id)
    if not journal.is_empty:
        with Broker(arguments.broker_port) as broker:
            broker.create_usage_topic()
            sent = resend(journal, broker, arguments.cluster_id, ledger.booked())
        _log.info("usage records that were not booked are sent again", records=sent)
    uvloop.run(_serve(journal, ledger, arguments))
