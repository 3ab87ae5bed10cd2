"""LiteLLM's proxy as it is installed: calls are charged to whom its keys belong, whatever its callers say."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.local.endpoints import Ports
from tests.patience import PATIENCE_SECONDS, wait_for
from tests.sdk.foreign_ledger import ForeignLedger, foreign_ledger
from tests.sdk.model_server import ProviderServer, provider_server
from tests.sdk.own_environment import PROGRAMS, environment, python_with_packages

pytestmark = pytest.mark.slow

SAID = [{"role": "user", "content": "hello"}]
CLAIMED = {
    "byok_org": "somebody-else",
    "byok_user": "somebody",
    "byok_team": "t9",
    "byok_run": "r42",
    "byok_agent": "a1",
}


class Proxied:
    """The proxy between a provider and a ledger."""

    def __init__(self, url: str, provider: ProviderServer, ledger: ForeignLedger) -> None:
        """It answers already."""
        self.url, self.provider, self.ledger = url, provider, ledger

    def call(self, key: str, path: str, **body: Any) -> None:
        """Call it; a stream is read to its end."""
        headers = {"Authorization": f"Bearer {key}"}
        answer = httpx.post(f"{self.url}{path}", json=body, headers=headers, timeout=PATIENCE_SECONDS)
        assert answer.status_code == 200, answer.text

    def booked(self, how_many: int) -> list[dict[str, Any]]:
        """The payloads of all that the ledger has by now, once there are so many."""
        wait_for(f"{how_many} events", lambda: len(self.ledger.taken) >= how_many)
        return [json.loads(text)["data"] for texts in self.ledger.taken.values() for text in texts]


def _configuration(provider: ProviderServer) -> dict[str, Any]:
    base = f"{provider.url}/v1"
    models = {
        "gpt": {"model": "openai/gpt-5.6-2026-03-01", "api_key": "sk-1", "api_base": base},
        "answers": {"model": "openai/gpt-6-sol", "api_key": "sk-1", "api_base": base},
        "claude": {"model": "anthropic/claude-sonnet-5", "api_key": "sk-2", "api_base": provider.url},
    }
    return {
        "model_list": [{"model_name": name, "litellm_params": params} for name, params in models.items()],
        "general_settings": {"master_key": "sk-master", "custom_auth": "proxy_callbacks.authenticated"},
        "litellm_settings": {"callbacks": "proxy_callbacks.logger"},
    }


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "proxy_callbacks.py").write_bytes((PROGRAMS / "proxy_callbacks.py").read_bytes())
    with provider_server() as provider, foreign_ledger() as ledger:
        port = Ports.free_block().kafka
        config = folder / "config.yaml"
        config.write_text(json.dumps(_configuration(provider)))
        settings = environment(
            BYOK_LEDGER_URL=ledger.url,
            BYOK_REGISTRY_URL=ledger.url,
            BYOK_TOKEN="made-up",
            BYOK_SPOOL_DIR=str(folder / "spool"),
        )
        command: list[str | Path] = [
            python_with_packages().with_name("litellm"),
            "--config",
            config,
            "--host",
            "127.0.0.1",
        ]
        with (folder / "log").open("w") as log:
            proxy = subprocess.Popen([*command, "--port", str(port)], env=settings, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for("the proxy", lambda: _answers(url, proxy, folder / "log"))
            yield Proxied(url, provider, ledger)
        finally:
            proxy.terminate()
            proxy.wait(PATIENCE_SECONDS)


def _answers(url: str, proxy: subprocess.Popen[bytes], log: Path) -> bool:
    assert proxy.poll() is None, log.read_text()[-3000:]
    try:
        return httpx.get(f"{url}/health/liveliness", timeout=PATIENCE_SECONDS).status_code == 200
    except httpx.HTTPError:
        return False


def test_what_its_keys_say_is_charged_and_no_claim_of_a_caller(proxied: Proxied) -> None:
    for key in ("sk-of-a-person", "sk-of-a-service"):
        for stream in (False, True):
            for model in ("gpt", "claude"):
                proxied.call(key, "/v1/chat/completions", model=model, messages=SAID, stream=stream, metadata=CLAIMED)
            proxied.call(
                key, "/v1/messages", model="claude", messages=SAID, max_tokens=9, stream=stream, metadata=CLAIMED
            )
            proxied.call(key, "/v1/responses", model="answers", input="hello", stream=stream, metadata=CLAIMED)
    # Whose key says nothing charges nobody; it comes first to be told, and so would be here by now.
    booked = proxied.booked(16)
    assert len(booked) == len(proxied.provider.served) == 16
    whose = Counter((d["org_id"], d.get("team_id"), d["user_id"], d["run_id"], d["agent_id"]) for d in booked)
    assert whose == {("acme", "t1", "u1", "r42", "a1"): 8, ("globex", None, "somebody", "r42", "billing"): 8}
    told = Counter(json.dumps([d["provider"], d["model"], d["usage"]], sort_keys=True) for d in booked)
    counted = Counter(
        json.dumps([each.recorded.provider, each.recorded.answer["model"], each.recorded.units], sort_keys=True)
        for each in proxied.provider.served
    )
    assert told == counted


def test_a_key_that_belongs_to_nobody_charges_nobody(proxied: Proxied) -> None:
    before = len(proxied.ledger.taken)
    proxied.call("sk-of-nobody", "/v1/chat/completions", model="gpt", messages=SAID, metadata=CLAIMED)
    proxied.call("sk-of-a-person", "/v1/chat/completions", model="gpt", messages=SAID)
    booked = proxied.booked(before + 1)
    assert not [data for data in booked if data["org_id"] == "somebody-else"]


def test_a_stream_that_its_caller_leaves_is_partial(proxied: Proxied) -> None:
    before = len(proxied.ledger.taken)
    proxied.provider.go_on.clear()
    body = {"model": "gpt", "messages": SAID, "stream": True}
    url, headers = f"{proxied.url}/v1/chat/completions", {"Authorization": "Bearer sk-of-a-person"}
    with httpx.stream("POST", url, json=body, headers=headers, timeout=PATIENCE_SECONDS) as answer:
        assert next(answer.iter_lines()).startswith("data:")
    (data,) = proxied.booked(before + 1)[before:]
    proxied.provider.go_on.set()
    # The provider had told no counts yet; these are LiteLLM's own.
    assert data["usage_status"] == "partial"
    assert data["usage"]["input"] > 0
