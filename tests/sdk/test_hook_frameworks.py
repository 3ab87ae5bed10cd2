"""The OpenAI Agents SDK, LangChain and pydantic-ai as they are installed: each answer of a model is one event."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.sdk.foreign_ledger import foreign_ledger
from tests.sdk.model_server import ProviderServer, provider_server
from tests.sdk.own_environment import run_metered

pytestmark = pytest.mark.slow


class Ran:
    """A program of agents that ran to its end, what the provider served it and what the ledger got."""

    def __init__(self, framework: str, provider: ProviderServer, events: list[dict[str, Any]], said: bytes) -> None:
        """Events of models are told from those of tools."""
        self.framework, self.provider, self.said = framework, provider, said
        self.answers = [each["data"] for each in events if each["type"] == "usage.token_usage.v2"]
        self.tools = [each["data"] for each in events if each["type"] == "usage.tool_call.v1"]


@pytest.fixture(scope="module", params=["openai_agents", "langchain", "pydantic_ai"])
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    with provider_server() as provider, foreign_ledger() as ledger:
        provider.failures = [500, 429]
        spool = tmp_path_factory.mktemp("frameworks") / "spool"
        done = run_metered("framework_calls.py", request.param, provider=provider, ledger=ledger, spool=spool)
        assert "not recorded: 0" in done.stdout
        said = (done.stdout + done.stderr).encode() + b"".join(path.read_bytes() for path in spool.iterdir())
        events = [json.loads(text) for texts in ledger.taken.values() for text in texts]
        yield Ran(request.param, provider, events, said + b"".join(ledger.bodies))


def told(provider: str, model: str, usage: dict[str, int], conditions: dict[str, str] | None) -> str:
    return json.dumps([provider, model, usage, conditions or {}], sort_keys=True)


def test_each_answer_is_one_event_with_the_counts_of_its_provider(ran: Ran) -> None:
    served = [each.recorded for each in ran.provider.served]
    assert len(served) >= 36
    counted = Counter(told(each.provider, each.answer["model"], each.units, each.conditions) for each in served)
    assert Counter(told(d["provider"], d["model"], d["usage"], d.get("conditions")) for d in ran.answers) == counted
    assert Counter(d["provider_request_id"] for d in ran.answers) == Counter(each.id for each in ran.provider.served)
    assert not [d for d in ran.answers if "usage_status" in d]


def test_each_is_of_the_agent_that_asked_and_of_whom_it_works_for(ran: Ran) -> None:
    asked = {each.id: re.search(r"You are the (\w+)\.", each.asked)[1] for each in ran.provider.served}
    for data in ran.answers:
        agent = asked[data["provider_request_id"]]
        assert data["agent_id"] == agent
        assert data["user_id"] == ("user of reader" if agent == "unnamed" else f"user of {agent}")
        assert (data["org_id"], data["team_id"], data["run_id"]) == ("acme", "t1", "r42")


def test_each_call_of_a_tool_is_one_event(ran: Ran) -> None:
    wanted = sum('"tools": [{' in each.asked and "call_" not in each.asked for each in ran.provider.served)
    users = Counter(data["user_id"] for data in ran.tools)
    assert wanted
    assert users == dict.fromkeys(("user of reader", "user of writer", "user of critic"), wanted // 3)
    outcomes = Counter((data["tool"], data["succeeded"]) for data in ran.tools)
    if ran.framework == "openai_agents":
        assert outcomes == {("search", True): wanted // 2, ("failing", False): wanted // 2}
    else:
        assert outcomes == {("search", True): wanted}


def test_nothing_of_a_key_a_prompt_or_an_error_is_kept(ran: Ran) -> None:
    assert b"nobody-may-keep" not in ran.said
    assert b"nobody may keep" not in ran.said
    assert b"what went wrong" not in ran.said
