"""The service as a process: it serves, stops cleanly on SIGTERM, and an export that breaks off never looks whole."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.cli.endpoints import Ports


class Process:
    def __init__(self, stack, database, **more):
        self.port = Ports.free_block().ledger
        environment = {
            "BYOK_ENV": "development",
            "BYOK_KAFKA_BOOTSTRAP": stack.ports.address("kafka"),
            "BYOK_LEDGER_DSN": stack.dsn("ledger_service", database),
            "BYOK_JWT_JWKS_FILE": str(stack.signing_key.jwks_file),
            "BYOK_LEDGER_PORT": str(self.port),
        }
        self.log = (stack.folder / f"{database}.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services", "ledger"],
            env=os.environ | environment | more,
            stderr=self.log,
            stdout=subprocess.PIPE,
        )

    def get(self, path, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", path, headers=headers or {})
        return connection.getresponse()

    def wait_until_ready(self):
        deadline = time.monotonic() + 30
        while True:
            assert self.process.poll() is None, self.stderr()
            assert time.monotonic() < deadline, self.stderr()
            if self.status("/readyz") == 200:
                return
            time.sleep(0.05)

    def status(self, path):
        """The status it answers with; None while it does not."""
        try:
            return self.get(path).status
        except OSError:
            return None

    def memory_peak(self):
        """The most it ever held, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024

    def stderr(self):
        self.log.seek(0)
        return self.log.read()


@pytest.fixture
def process(stack, database):
    process = Process(stack, database)
    process.wait_until_ready()
    yield process
    process.process.kill()
    process.process.wait()


def test_it_serves_and_ends_cleanly_on_sigterm(process, company, reader):
    answer = process.get("/v1/organizations/acme/summary", reader)
    assert answer.status == 200
    assert process.get("/openapi.json").status == 200
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(10) == 0
    assert process.process.stdout.read() == b""
    assert "Traceback" not in process.stderr()


def test_it_ends_in_time_while_the_broker_and_the_database_are_away(stack, database):
    gone = {"BYOK_KAFKA_BOOTSTRAP": "127.0.0.1:1", "BYOK_LEDGER_DSN": "postgresql://nobody@127.0.0.1:1/none"}
    process = Process(stack, database, **gone)
    try:
        deadline = time.monotonic() + 30
        while process.status("/readyz") != 503:
            assert time.monotonic() < deadline, process.stderr()
            time.sleep(0.05)
        assert process.status("/healthz") == 200
        process.process.send_signal(signal.SIGTERM)
        # It takes a moment; on a machine where everything is slow it takes longer, but it ends by itself.
        assert process.process.wait(30) == 0
    finally:
        process.process.kill()
        process.process.wait()


def test_an_export_that_breaks_off_never_looks_whole(process, stack, books, database, reader):
    books.rate_cards()
    books.book("e0")
    # Long enough ids that the file cannot fit into any buffer on the way.
    books.connection.execute(
        "INSERT INTO ledger.entry SELECT gen_random_uuid(), kind, revision, adjusts, org_id, team_id, user_id,"
        " event_source, rpad('e' || n, 250, 'x'), event_type, occurred_at, recorded_at, run_id, agent_id, workflow_id,"
        " parent_run_id, node, tool, succeeded, provider, model, tier, quantity, input_tokens, cached_input_tokens,"
        " output_tokens, claim_source, claim_credential_id, key_source, byok_scope, credential_id, reason, flags,"
        " list_mc, charged_mc, saved_mc, rate_card, registry_seq, caused_by_seq, payload_hash, source_partition_id,"
        " source_offset, source_index FROM ledger.entry, generate_series(1, 50000) n"
    )
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
