"""The ledger service as a process of its own, and a ledger whose export fits into no buffer on the way."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from services.local.endpoints import Ports
from tests.patience import PATIENCE_SECONDS


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
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        connection.request("GET", path, headers=headers or {})
        return connection.getresponse()

    def wait_until_ready(self):
        deadline = time.monotonic() + PATIENCE_SECONDS
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


@contextmanager
def running(stack, database, **more):
    """The process, ready; ``more`` are variables of its environment."""
    process = Process(stack, database, **more)
    try:
        process.wait_until_ready()
        yield process
    finally:
        process.process.kill()
        process.process.wait()


def book_many(books, org_id="acme", entries=50_000):
    """Book so many entries, with ids so long, that the organization's export fits into no buffer on the way."""
    books.book("e0", org_id=org_id)
    books.connection.execute(
        "INSERT INTO ledger.entry SELECT gen_random_uuid(), kind, revision, adjusts, org_id, team_id, user_id,"
        " event_source, rpad('e' || n, 250, 'x'), event_type, occurred_at, recorded_at, run_id, agent_id, workflow_id,"
        " parent_run_id, node, tool, succeeded, provider, model, tier, quantity, input_tokens, cached_input_tokens,"
        " output_tokens, claim_source, claim_credential_id, key_source, byok_scope, credential_id, reason, flags,"
        " list_mc, charged_mc, saved_mc, rate_card, registry_seq, caused_by_seq, payload_hash, source_partition_id,"
        " source_offset, source_index FROM ledger.entry, generate_series(1, %s) n WHERE org_id = %s",
        [entries, org_id],
    )
