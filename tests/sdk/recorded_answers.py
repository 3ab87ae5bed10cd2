"""Answers of the seven APIs in the shape in which they come, made-up in content, with what each used."""

from __future__ import annotations

from typing import Any, NamedTuple


class Recorded(NamedTuple):
    """An answer, and what it used."""

    name: str
    provider: str
    answer: dict[str, Any]
    units: dict[str, int]
    conditions: dict[str, str]
    cost_usd: str | None = None


def _chat(model: str, usage: dict[str, Any], **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}
    return {
        "id": "chatcmpl-A1",
        "object": "chat.completion",
        "model": model,
        "choices": [choice],
        "usage": usage,
    } | more


OPENAI_CHAT = _chat(
    "gpt-5.6-2026-03-01",
    {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0, "cache_write_tokens": 64},
        "completion_tokens_details": {
            "reasoning_tokens": 120,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
    service_tier="flex",
)

OPENAI_AUDIO = _chat(
    "gpt-audio-2",
    {
        "prompt_tokens": 118,
        "completion_tokens": 220,
        "total_tokens": 338,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 90, "text_tokens": 28},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 170, "text_tokens": 50},
    },
    service_tier="default",
)

OPENAI_RESPONSE = {
    "id": "resp_67c",
    "object": "response",
    "status": "completed",
    "model": "gpt-6-sol",
    "service_tier": "priority",
    "output": [
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
        {"type": "web_search_call", "id": "ws_2", "status": "completed", "action": {"type": "open_page", "url": "u"}},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello.", "annotations": []}],
        },
    ],
    "usage": {
        "input_tokens": 328,
        "input_tokens_details": {
            "cached_tokens": 0,
            "cache_write_tokens": 200,
            "cache_write_tokens_details": {"ttl_30m_tokens": 120, "ttl_12h_tokens": 80},
        },
        "output_tokens": 52,
        "output_tokens_details": {"reasoning_tokens": 20},
        "total_tokens": 380,
    },
}

ANTHROPIC = {
    "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5",
    "content": [{"type": "text", "text": "Hello."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 2095,
        "cache_creation_input_tokens": 2051,
        "cache_read_input_tokens": 4100,
        "cache_creation": {"ephemeral_5m_input_tokens": 51, "ephemeral_1h_input_tokens": 2000},
        "output_tokens": 503,
        "output_tokens_details": {"thinking_tokens": 100},
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
        "service_tier": "standard",
        "inference_geo": "us",
        "speed": "standard",
    },
}

ANTHROPIC_BATCH = {
    "id": "msg_02",
    "type": "message",
    "model": "claude-haiku-4-5",
    "usage": {
        "input_tokens": 11,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 36,
        "service_tier": "batch",
        "inference_geo": "not_available",
    },
}

ANTHROPIC_OF_BEFORE_THE_BREAKDOWN = {
    "id": "msg_03",
    "type": "message",
    "model": "claude-opus-4-5",
    "usage": {
        "input_tokens": 7,
        "cache_creation_input_tokens": 1024,
        "cache_read_input_tokens": None,
        "output_tokens": 9,
        "server_tool_use": None,
    },
}

GEMINI = {
    "candidates": [{"content": {"parts": [{"text": "Hello."}], "role": "model"}, "finishReason": "STOP"}],
    "usageMetadata": {
        "promptTokenCount": 2152,
        "cachedContentTokenCount": 2027,
        "candidatesTokenCount": 43,
        "toolUsePromptTokenCount": 100,
        "thoughtsTokenCount": 400,
        "totalTokenCount": 2695,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 152},
            {"modality": "AUDIO", "tokenCount": 2000},
        ],
        "cacheTokensDetails": [
            {"modality": "TEXT", "tokenCount": 27},
            {"modality": "AUDIO", "tokenCount": 2000},
        ],
        "trafficType": "ON_DEMAND_FLEX",
    },
    "modelVersion": "gemini-3.5-flash",
    "responseId": "kR2aaJ",
}

GEMINI_WITHOUT_AN_ANSWER = {
    "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
    "usageMetadata": {"promptTokenCount": 17, "totalTokenCount": 17, "serviceTier": "standard"},
    "modelVersion": "gemini-2.5-pro",
    "responseId": "kR2aaK",
}

XAI_REASONING_APART = _chat(
    "grok-4-1-fast-reasoning",
    {
        "prompt_tokens": 171,
        "completion_tokens": 66,
        "total_tokens": 542,
        "prompt_tokens_details": {"text_tokens": 171, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 170},
        "completion_tokens_details": {"reasoning_tokens": 305, "audio_tokens": 0},
        "num_sources_used": 0,
        "cost_in_usd_ticks": 37756000,
    },
)

XAI_REASONING_WITHIN = _chat(
    "grok-5",
    {
        "prompt_tokens": 100,
        "completion_tokens": 400,
        "total_tokens": 500,
        "completion_tokens_details": {"reasoning_tokens": 305},
    },
)

DEEPSEEK = _chat(
    "deepseek-chat",
    {
        "prompt_tokens": 1050,
        "completion_tokens": 80,
        "total_tokens": 1130,
        "prompt_tokens_details": {"cached_tokens": 1024},
        "completion_tokens_details": {"reasoning_tokens": 40},
        "prompt_cache_hit_tokens": 1024,
        "prompt_cache_miss_tokens": 26,
    },
)

FIREWORKS = _chat(
    "accounts/fireworks/models/kimi-k2p5",
    {
        "prompt_tokens": 90,
        "completion_tokens": 12,
        "total_tokens": 102,
        "prompt_tokens_details": {"cached_tokens": 64},
    },
    service_tier="priority",
)

ANSWERS = [
    Recorded(
        "openai chat",
        "openai",
        OPENAI_CHAT,
        {"input": 2006, "cache_read": 1920, "cache_write_5m": 64, "output": 300, "reasoning": 120},
        {"service_tier": "flex"},
    ),
    Recorded(
        "openai audio",
        "openai",
        OPENAI_AUDIO,
        {"input": 118, "input_audio": 90, "output": 220, "output_audio": 170},
        {"service_tier": "default"},
    ),
    Recorded(
        "openai responses",
        "openai",
        OPENAI_RESPONSE,
        {
            "input": 328,
            "cache_write_5m": 120,
            "cache_write_12h": 80,
            "output": 52,
            "reasoning": 20,
            "web_search": 1,
        },
        {"service_tier": "priority"},
    ),
    Recorded(
        "anthropic",
        "anthropic",
        ANTHROPIC,
        {
            "input": 8246,
            "cache_read": 4100,
            "cache_write_5m": 51,
            "cache_write_1h": 2000,
            "output": 503,
            "reasoning": 100,
            "web_search": 2,
        },
        {"service_tier": "standard", "region": "us"},
    ),
    Recorded("anthropic batch", "anthropic", ANTHROPIC_BATCH, {"input": 11, "output": 36}, {"processing": "batch"}),
    Recorded(
        "anthropic of before the breakdown",
        "anthropic",
        ANTHROPIC_OF_BEFORE_THE_BREAKDOWN,
        {"input": 1031, "cache_write_5m": 1024, "output": 9},
        {},
    ),
    Recorded(
        "gemini",
        "google",
        GEMINI,
        {"input": 2252, "cache_read": 2027, "output": 443, "reasoning": 400},
        {"service_tier": "flex"},
    ),
    Recorded(
        "gemini without an answer",
        "google",
        GEMINI_WITHOUT_AN_ANSWER,
        {"input": 17, "output": 0},
        {"service_tier": "standard"},
    ),
    Recorded(
        "xai, reasoning apart",
        "xai",
        XAI_REASONING_APART,
        {"input": 171, "cache_read": 170, "output": 371, "reasoning": 305},
        {},
        "0.0037756000",
    ),
    Recorded("xai, reasoning within", "xai", XAI_REASONING_WITHIN, {"input": 100, "output": 400, "reasoning": 305}, {}),
    Recorded(
        "deepseek",
        "deepseek",
        DEEPSEEK,
        {"input": 1050, "cache_read": 1024, "output": 80, "reasoning": 40},
        {},
    ),
    Recorded(
        "fireworks",
        "fireworks",
        FIREWORKS,
        {"input": 90, "cache_read": 64, "output": 12},
        {"service_tier": "priority"},
    ),
]


# --- streams ----------------------------------------------------------------------------------------------------------


def _chunk(delta: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": {"content": delta}, "finish_reason": None}]
    return {"id": "chatcmpl-S1", "model": "gpt-5.6-2026-03-01", "choices": choices, "usage": None} | more


_LAST = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
_STREAMED = {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27}

OPENAI_STREAM = [_chunk("Hel"), _chunk("lo."), _chunk(choices=_LAST), _chunk(usage=_STREAMED, service_tier="default")]

XAI_STREAM = [
    _chunk("Hel", model="grok-5", usage={"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21}),
    _chunk("lo.", model="grok-5", usage={"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22}),
    _chunk(choices=_LAST, model="grok-5", usage=_STREAMED),
]

RESPONSES_STREAM: list[dict[str, Any]] = [
    {"type": "response.created", "response": {"id": "resp_67c", "model": "gpt-6-sol", "usage": None}},
    {"type": "response.output_text.delta", "delta": "Hello."},
    {"type": "response.incomplete", "response": OPENAI_RESPONSE},
]

ANTHROPIC_STREAM: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_04",
            "type": "message",
            "model": "claude-sonnet-5",
            "usage": {
                "input_tokens": 25,
                "cache_creation_input_tokens": 12,
                "cache_read_input_tokens": 0,
                "cache_creation": {"ephemeral_5m_input_tokens": 12, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 1,
                "service_tier": "standard",
            },
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 8}},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"input_tokens": 10682, "cache_read_input_tokens": None, "output_tokens": 15},
    },
    {"type": "message_stop"},
]

GEMINI_STREAM: list[dict[str, Any]] = [
    {
        "candidates": [{"content": {"parts": [{"text": "Hel"}]}}],
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 1, "totalTokenCount": 6},
        "modelVersion": "gemini-3.5-flash",
        "responseId": "r1",
    },
    {
        "candidates": [{"content": {"parts": [{"text": "lo."}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 3, "totalTokenCount": 8},
        "modelVersion": "gemini-3.5-flash",
        "responseId": "r1",
    },
]


class Streamed(NamedTuple):
    """A stream, what it used, and what is known after ``cut_after`` of its events (None: nothing)."""

    name: str
    provider: str
    events: list[dict[str, Any]]
    units: dict[str, int]
    cut_after: int
    known: dict[str, int] | None


STREAMS = [
    Streamed("openai chat", "openai", OPENAI_STREAM, {"input": 20, "output": 7}, 2, None),
    Streamed("xai", "xai", XAI_STREAM, {"input": 20, "output": 7}, 2, {"input": 20, "output": 2}),
    Streamed("openai responses", "openai", RESPONSES_STREAM, ANSWERS[2].units, 2, None),
    Streamed(
        "anthropic",
        "anthropic",
        ANTHROPIC_STREAM,
        {"input": 10694, "cache_write_5m": 12, "output": 15},
        6,
        {"input": 37, "cache_write_5m": 12, "output": 8},
    ),
    Streamed("gemini", "google", GEMINI_STREAM, {"input": 5, "output": 3}, 1, {"input": 5, "output": 1}),
]
