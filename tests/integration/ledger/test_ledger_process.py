"""The service as a process: it serves, stops cleanly on SIGTERM, and an export that breaks off never looks whole."""

from __future__ import annotations

import http.client
import signal
import time

import pytest

from tests.integration.ledger.ledger_process import Process, book_many
from tests.patience import PATIENCE_SECONDS


def test_it_serves_and_ends_cleanly_on_sigterm(process, company, reader):
    answer = process.get("/v1/organizations/acme/summary", reader)
    assert answer.status == 200
    assert process.get("/openapi.json").status == 200
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(PATIENCE_SECONDS) == 0
    assert process.process.stdout.read() == b""
    assert "Traceback" not in process.stderr()


@pytest.mark.slow
def test_it_ends_in_time_while_the_broker_and_the_database_are_away(stack, database):
    gone = {"BYOK_KAFKA_BOOTSTRAP": "127.0.0.1:1", "BYOK_LEDGER_DSN": "postgresql://nobody@127.0.0.1:1/none"}
    process = Process(stack, database, **gone)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while process.status("/readyz") != 503:
            assert time.monotonic() < deadline, process.stderr()
            time.sleep(0.05)
        assert process.status("/healthz") == 200
        process.process.send_signal(signal.SIGTERM)
        # It takes a moment; on a machine where everything is slow it takes longer, but it ends by itself.
        assert process.process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.process.kill()
        process.process.wait()


@pytest.mark.slow
def test_an_export_that_breaks_off_never_looks_whole(process, stack, books, database, reader):
    books.rate_cards()
    book_many(books)
    books.place()
    answer = process.get("/v1/organizations/acme/export?format=csv", reader)
    assert answer.status == 200
    assert answer.read(10_000)
    with stack.postgres.connect() as admin:
        ended = admin.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = %s AND usename = 'ledger_service' AND state IN ('active', 'idle in transaction')",
            [database],
        ).fetchone()[0]
    assert ended >= 1
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    # The service goes on, and the next one is whole.
    before = process.memory_peak()
    whole = process.get("/v1/organizations/acme/export?format=csv", reader).read()
    assert process.memory_peak() - before < len(whole) / 2
    assert whole.count(b"\r\n") == 50_002
    assert whole.endswith(b"\r\n")
