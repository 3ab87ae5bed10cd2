"""LiteLLM as it is installed, as a package: what its hooks tell of is what the provider has counted, once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from byok_sdk import Meter, Settings

from tests.patience import PATIENCE_SECONDS
from tests.sdk.foreign_ledger import ForeignLedger, foreign_ledger
from tests.sdk.model_server import ProviderServer, provider_server
from tests.sdk.own_environment import run_there
from tests.sdk.recorded_answers import Recorded

pytestmark = pytest.mark.slow

CALLS = "litellm_calls.py"
PROMPT, KEY = "a prompt that nobody may keep", "sk-test-that-nobody-may-keep-"
# LiteLLM does not pass on which tier served a message of Anthropic's that came as a stream, nor xAI's bill of any.
UNTOLD_OF_STREAMS = {"service_tier"}


class Ran(NamedTuple):
    """A program that ran to its end, and what came of it."""

    provider: ProviderServer
    ledger: ForeignLedger
    said: str
    spool: Path

    @property
    def data(self) -> list[dict[str, Any]]:
        """The payloads of what the ledger got, each once."""
        return [json.loads(text)["data"] for texts in self.ledger.taken.values() for text in texts]


class Runner:
    """Runs the program's functions between a provider and a ledger of this machine."""

    def __init__(self, provider: ProviderServer, ledger: ForeignLedger, spool: Path) -> None:
        """Nothing was called yet."""
        self.provider, self.ledger, self.spool = provider, ledger, spool

    def __call__(self, *names: str) -> Ran:
        """Run them, and send what the program left behind."""
        done = run_there(
            CALLS,
            *names,
            PROVIDER_URL=self.provider.url,
            BYOK_LEDGER_URL=self.ledger.url,
            BYOK_REGISTRY_URL=self.ledger.url,
            BYOK_TOKEN="made-up",
            BYOK_SPOOL_DIR=str(self.spool),
        )
        assert done.returncode == 0, done.stderr[-3000:]
        if self.spool.is_dir():
            self._send_what_is_left()
        return Ran(self.provider, self.ledger, done.stdout + done.stderr, self.spool)

    def _send_what_is_left(self) -> None:
        settings = Settings(self.ledger.url, self.ledger.url, self.spool, "made-up")
        with Meter(settings) as next_process:
            next_process.run(org="next", user="process", run_id="r1").workflow("begin")
            assert next_process.flush(PATIENCE_SECONDS)
        (own,) = (event_id for event_id, texts in self.ledger.taken.items() if '"next"' in min(texts))
        del self.ledger.taken[own]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """All ways in one program, for its start takes most of the time; the provider fails at first."""
    with provider_server() as provider, foreign_ledger() as ledger:
        provider.failures = [500]
        runner = Runner(provider, ledger, tmp_path_factory.mktemp("litellm") / "spool")
        yield runner("retried", "threads", "loop", "cached", "twice", "unasked", "embedded")


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    with provider_server() as provider, foreign_ledger() as ledger:
        yield Runner(provider, ledger, tmp_path / "spool")


def billed(ran: Ran, doing: str) -> list[Recorded]:
    """What the provider has counted for one function of the program."""
    return [each.recorded for each in ran.provider.served if each.key == KEY + doing]


def booked(ran: Ran, doing: str) -> list[dict[str, Any]]:
    """What the ledger got for it."""
    return [data for data in ran.data if data["agent_id"] == doing]


def counts(recorded: Recorded) -> str:
    return json.dumps([recorded.provider, recorded.answer["model"], recorded.units], sort_keys=True)


def told(data: dict[str, Any]) -> str:
    return json.dumps([data["provider"], data["model"], data["usage"]], sort_keys=True)


@pytest.mark.parametrize(
    ("doing", "answers"), [("threads", 6), ("loop", 17), ("retried", 1), ("cached", 2), ("twice", 2), ("embedded", 1)]
)
def test_each_answer_is_one_event_with_the_counts_of_the_provider(ran: Ran, doing: str, answers: int) -> None:
    assert len(billed(ran, doing)) == answers
    assert Counter(map(told, booked(ran, doing))) == Counter(map(counts, billed(ran, doing)))


def test_each_event_says_whose_it_is_and_what_was_served(ran: Ran) -> None:
    served = {each.id: each.recorded for each in ran.provider.served if each.id}
    with_its_id = [data for data in ran.data if data.get("provider_request_id") in served]
    assert len(with_its_id) > len(ran.data) / 2
    for data in with_its_id:
        conditions = served[data["provider_request_id"]].conditions
        untold = UNTOLD_OF_STREAMS if data["provider"] == "anthropic" else set()
        assert {name: data["conditions"][name] for name in conditions.keys() - untold}.items() <= conditions.items()
    assert {(d["org_id"], d["user_id"], d["team_id"], d["run_id"]) for d in ran.data} == {("acme", "u1", "t1", "r42")}


def test_what_litellm_has_counted_itself_is_partial(ran: Ran) -> None:
    (data,) = booked(ran, "unasked")
    assert data["usage_status"] == "partial"
    assert data["usage"]["input"] > 0
    # The recorded answer of this model has no details either, and so looks like LiteLLM's own counts.
    assert {each["model"] for each in ran.data if "usage_status" in each} == {data["model"], "grok-5"}


def test_nothing_of_the_key_or_the_prompt_is_kept(ran: Ran) -> None:
    kept = ran.said.encode() + b"".join(path.read_bytes() for path in ran.spool.iterdir())
    kept += b"".join(ran.ledger.bodies)
    for secret in (PROMPT, KEY):
        assert secret.encode() not in kept


def test_a_call_that_cannot_be_recorded_is_answered_logged_and_counted(runner: Runner) -> None:
    ran = runner("in_vain")
    assert len(ran.provider.served) == 2
    assert not ran.data
    assert "byok_org, byok_user is missing" in ran.said
    assert "not recorded: 2" in ran.said


def test_what_is_told_while_the_program_ends_is_not_lost(runner: Runner) -> None:
    assert len(runner("ended_at_once").data) == 1
