"""The how-to on LiteLLM is run as it stands: what the provider counted is booked, with the key that was leased."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.one_stack.test_integrate_a_runner import PAGE
from tests.e2e.running import Stack
from tests.sdk.model_server import provider_server
from tests.sdk.own_environment import run_text


@pytest.mark.slow
def test_a_call_through_litellm_is_booked_with_the_key_that_was_leased(stack: Stack, tmp_path: Path) -> None:
    org_id = stack.new_organization("pro")
    credential_id = stack.add_key(org_id, "personal", "u1", "anthropic")
    section = PAGE[PAGE.index("## LiteLLM") :]
    program = section[section.index("```python\n") + len("```python\n") :].partition("```")[0]
    with provider_server() as provider:
        run_text(
            program.replace("acme", org_id),
            ANTHROPIC_API_BASE=provider.url,
            BYOK_REGISTRY_URL=stack.told["registry_url"],
            BYOK_LEDGER_URL=stack.told["ledger_url"],
            BYOK_TOKEN=stack.told["tokens"]["runner"],
            BYOK_SPOOL_DIR=str(tmp_path / "spool"),
        )
    (served,) = provider.served
    assert served.key.startswith("sk-test-")
    (entry,) = stack.entries(org_id, 1)
    assert (entry["usage"], entry["run_id"], entry["agent_id"]) == (served.recorded.units, "with-litellm", "plan")
    assert (entry["credential_id"], entry["reason"]) == (credential_id, "claimed_key")
    assert entry["conditions"] == served.recorded.conditions
