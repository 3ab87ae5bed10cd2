"""The how-to on hooks is run as it stands: what the provider counted is booked, with the key that was leased."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.one_stack.test_integrate_a_runner import PAGE
from tests.e2e.running import Stack
from tests.sdk.model_server import provider_server
from tests.sdk.own_environment import run_text

pytestmark = pytest.mark.slow


def program_after(words: str) -> str:
    """The first program on the page after these words."""
    section = PAGE[PAGE.index(words) :]
    return section[section.index("```python\n") + len("```python\n") :].partition("```")[0]


@pytest.mark.parametrize(
    ("words", "provider", "agent", "tools"),
    [
        ("## LiteLLM", "anthropic", "plan", 0),
        ("## Providers' own clients", "anthropic", "plan", 0),
        ("**OpenAI Agents SDK**", "openai", "planner", 1),
        ("**LangChain**", "openai", "planner", 1),
        ("**pydantic-ai**", "openai", "planner", 1),
    ],
)
def test_what_is_called_is_booked_with_the_key_that_was_leased(
    words: str, provider: str, agent: str, tools: int, stack: Stack, tmp_path: Path
) -> None:
    org_id = stack.new_organization("pro")
    credential_id = stack.add_key(org_id, "personal", "u1", provider)
    with provider_server() as server:
        run_text(
            program_after(words).replace("acme", org_id),
            ANTHROPIC_API_BASE=server.url,
            ANTHROPIC_BASE_URL=server.url,
            OPENAI_BASE_URL=f"{server.url}/v1",
            BYOK_REGISTRY_URL=stack.told["registry_url"],
            BYOK_LEDGER_URL=stack.told["ledger_url"],
            BYOK_TOKEN=stack.told["tokens"]["runner"],
            BYOK_SPOOL_DIR=str(tmp_path / "spool"),
        )
    entries = stack.entries(org_id, len(server.served) + tools)
    answers = [entry for entry in entries if entry["event_type"] == "usage.token_usage.v2"]
    assert len(entries) - len(answers) == tools
    assert len(answers) == len(server.served) == 1 + tools
    recorded = server.served[0].recorded
    for served, entry in zip(server.served, answers, strict=True):
        assert served.key.startswith("sk-test-")
        assert (entry["usage"], entry["conditions"]) == (recorded.units, recorded.conditions)
        assert (entry["credential_id"], entry["reason"]) == (credential_id, "claimed_key")
        assert entry["agent_id"] == agent
