"""What the answers of the seven APIs say that was used: whole, in pieces, cut, and where they do not add up."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from byok_sdk.errors import UsageError, UsageMissingError
from byok_sdk.usage.apis import APIS
from byok_sdk.usage.extraction import usage_of, with_more
from byok_sdk.usage.streams import StreamUsage
from pydantic import BaseModel, ConfigDict, create_model

from tests.sdk.recorded_answers import (
    ANSWERS,
    ANTHROPIC,
    DEEPSEEK,
    GEMINI,
    OPENAI_CHAT,
    STREAMS,
    XAI_REASONING_APART,
    XAI_REASONING_WITHIN,
    Recorded,
    Streamed,
)


def _named(recorded: Recorded | Streamed) -> str:
    return recorded.name


def _object(value: Any) -> Any:
    """The same as a provider's package gives it: models, and beside their fields what these do not know yet."""
    if isinstance(value, list):
        return [_object(each) for each in value]
    if not isinstance(value, dict):
        return value
    known = dict.fromkeys(list(value)[::2], (Any, None))
    model: type[BaseModel] = create_model("Answer", __config__=ConfigDict(extra="allow"), **known)  # type: ignore[call-overload]
    return model(**{name: _object(each) for name, each in value.items()})


@pytest.mark.parametrize("recorded", ANSWERS, ids=_named)
@pytest.mark.parametrize("shape", [copy.deepcopy, _object], ids=["dict", "object"])
def test_an_answer_says_what_it_used(recorded: Recorded, shape: Any) -> None:
    usage = usage_of(shape(recorded.answer), recorded.provider)
    assert usage.units == recorded.units
    assert usage.conditions == recorded.conditions
    assert usage.cost_usd == recorded.cost_usd
    assert usage.status == "final"
    assert usage.model == recorded.answer.get("model", recorded.answer.get("modelVersion"))
    assert usage.response_id == recorded.answer.get("id", recorded.answer.get("responseId"))


def test_there_is_an_answer_of_each_api() -> None:
    assert len(APIS) == 7
    assert {recorded.provider for recorded in ANSWERS} == {provider for api in APIS for provider in api.providers}


@pytest.mark.parametrize("streamed", STREAMS, ids=_named)
def test_a_stream_says_what_it_used_at_its_end(streamed: Streamed) -> None:
    seen = StreamUsage(streamed.provider)
    for event in streamed.events:
        seen.see(_object(event))
    usage = seen.result()
    assert (usage.units, usage.status) == (streamed.units, "final")


@pytest.mark.parametrize("streamed", STREAMS, ids=_named)
def test_of_a_stream_that_was_cut_what_is_known_is_partial_and_never_0(streamed: Streamed) -> None:
    seen = StreamUsage(streamed.provider)
    for event in streamed.events[: streamed.cut_after]:
        seen.see(event)
    if streamed.known is None:
        with pytest.raises(UsageMissingError, match="said nothing of its usage"):
            seen.result(cut=True)
    else:
        usage = seen.result()
        assert (usage.units, usage.status) == (streamed.known, "partial")


def _changed(answer: dict[str, Any], root: str, **changes: Any) -> dict[str, Any]:
    return copy.deepcopy(answer) | {root: answer[root] | changes}


@pytest.mark.parametrize(
    ("provider", "answer", "named"),
    [
        # Neither sum holds, so nobody knows whether completion_tokens has the reasoning in it.
        ("xai", _changed(XAI_REASONING_APART, "usage", total_tokens=500), "usage.total_tokens 500"),
        ("xai", _changed(XAI_REASONING_WITHIN, "usage", total_tokens=None), "nobody can say whether output includes"),
        ("openai", _changed(OPENAI_CHAT, "usage", total_tokens=2307), "usage.total_tokens 2307"),
        ("deepseek", _changed(DEEPSEEK, "usage", prompt_cache_miss_tokens=25), "usage.prompt_cache_miss_tokens 25"),
        ("google", _changed(GEMINI, "usageMetadata", thoughtsTokenCount=None), "usageMetadata.totalTokenCount 2695"),
        ("anthropic", _changed(ANTHROPIC, "usage", cache_creation_input_tokens=1), "ephemeral_1h_input_tokens 2000"),
        ("anthropic", _changed(ANTHROPIC, "usage", iterations=[{"type": "compaction"}]), "usage.iterations"),
        ("anthropic", _changed(ANTHROPIC, "usage", output_tokens=None), "usage.output_tokens is missing"),
        ("openai", _changed(OPENAI_CHAT, "usage", completion_tokens=-1, total_tokens=2005), "must be a count"),
        ("openai", _changed(OPENAI_CHAT, "usage", completion_tokens=1.0), "must be a count"),
        ("openai", _changed(OPENAI_CHAT, "usage", prompt_tokens_details={"cached_tokens": 2007}), "cache_read exceeds"),
        ("openai", {"id": "x", "model": "m", "usage": {"tokens": 3}}, "usage.prompt_tokens or usage.input_tokens"),
        ("openai", {"id": "x", "model": "m"}, "has no usage"),
        ("openai", {"usage": OPENAI_CHAT["usage"]}, "model is missing"),
        ("mistral", OPENAI_CHAT, "not known"),
    ],
)
def test_what_does_not_add_up_is_an_error_that_names_the_fields(provider: str, answer: Any, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        usage_of(answer, provider)


def test_what_an_answer_does_not_tell_is_added() -> None:
    usage = with_more(usage_of(GEMINI, "google"), {"web_search": 2}, {"processing": "batch"})
    assert usage.units["web_search"] == 2
    assert usage.conditions == {"service_tier": "flex", "processing": "batch"}
