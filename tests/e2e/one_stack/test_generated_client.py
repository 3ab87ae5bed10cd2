"""The ledger's OpenAPI document says enough: a client that is generated from it hands in events and reads entries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.running import Stack
from tests.enabling import skip_unless
from tests.patience import PATIENCE_SECONDS

GENERATOR = "openapi-python-client==0.29.1"
USE = """
import datetime, json, sys, time
from client import AuthenticatedClient
from client.api.ledger import get_entries_v1_organizations_org_id_entries_get as entries
from client.api.ledger import post_usage_events_v1_usage_events_post as usage_events
from client.models import ByokClaim, NodeCall, NodeCallData, TokenUsageV2, TokenUsageV2Data, TokenUsageV2DataUsage

url, org_id, patience_seconds = sys.argv[1:]
runner, reader = json.load(sys.stdin)
now = datetime.datetime.now(datetime.timezone.utc)
usage = TokenUsageV2DataUsage.from_dict({"input": 100, "cache_read": 40, "output": 7})
data = TokenUsageV2Data(org_id=org_id, user_id="u1", agent_id="a1", provider="openai", model="gpt-5", usage=usage)
used = TokenUsageV2("1.0", "e1", "generated", now, "usage.token_usage.v2", data)
data = NodeCallData(org_id=org_id, user_id="u1", node="ask_ai", provider="openai", model="gpt-5", calls=2)
called = NodeCall("1.0", "e2", "generated", now, "usage.node_call.v1", data)
for body in (used, [used, called]):
    answer = usage_events.sync_detailed(client=AuthenticatedClient(url, token=runner), body=body)
    assert answer.status_code == 202, answer
    print(answer.parsed.accepted)
wrong = NodeCall("1.0", "", "generated", now, "usage.node_call.v1", data)
assert usage_events.sync_detailed(client=AuthenticatedClient(url, token=runner), body=wrong).status_code == 422
deadline = time.monotonic() + float(patience_seconds)
found = []
while len(found) < 2 and time.monotonic() < deadline:
    page = entries.sync_detailed(org_id, client=AuthenticatedClient(url, token=reader)).parsed
    found = [] if page is None else page.entries
    time.sleep(0.2)
print(json.dumps(sorted([entry.event_id, entry.input_tokens, entry.quantity, entry.key_source] for entry in found)))
"""


@pytest.mark.slow
def test_a_generated_client_hands_in_events_and_reads_entries(stack: Stack, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=PATIENCE_SECONDS)
    own = tmp_path / "venv" / "bin"
    install = [str(own / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", GENERATOR]
    installed = subprocess.run(install, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    skip_unless(installed.returncode == 0, f"{GENERATOR}: {installed.stderr[-200:]}", "a package index", needs="pip")
    (tmp_path / "openapi.json").write_bytes(stack.ledger.get("/openapi.json").raise_for_status().content)
    generate = [str(own / "openapi-python-client"), "generate", "--path", "openapi.json", "--meta", "none"]
    subprocess.run(
        [*generate, "--output-path", "client"], cwd=tmp_path, capture_output=True, check=True, timeout=PATIENCE_SECONDS
    )
    org_id = stack.new_organization()
    tokens = stack.told["tokens"]
    used = subprocess.run(
        [own / "python", "-c", USE, stack.told["ledger_url"], org_id, str(PATIENCE_SECONDS)],
        cwd=tmp_path,
        input=json.dumps([tokens["runner"], tokens["billing"]]),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert used.returncode == 0, used.stderr
    one, two, entries = used.stdout.splitlines()
    assert (one, two) == ("1", "2")
    assert json.loads(entries) == [["e1", 100, 107, "platform"], ["e2", 0, 2, "platform"]]
