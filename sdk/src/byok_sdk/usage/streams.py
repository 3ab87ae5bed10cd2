"""Answers that come in pieces: what is known of their usage when they end, or when they are cut.

Counts in streams are cumulative: the last one counts, and none are added up. A stream that was cut is ``partial``; one
that said nothing at all of its usage is an error, and never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from byok_sdk.errors import UsageError, UsageMissingError
from byok_sdk.usage.answers import elements, look, names_of, plain
from byok_sdk.usage.apis import (
    ANTHROPIC_MESSAGES,
    GEMINI,
    OPENAI_CHAT,
    OPENAI_RESPONSES,
    Api,
    apis_of,
)
from byok_sdk.usage.extraction import read_usage
from byok_sdk.usage.measured import Usage

_RESPONSE_ENDS = ("response.completed", "response.incomplete", "response.failed")
_GEMINI_ANSWER = ("modelVersion", "responseId")
_CHAT_ANSWER = ("id", "model", "service_tier")

Estimate = Callable[[], Mapping[str, int]]
"""Units of an answer that was cut before it told its usage, as the runner counts them."""


class StreamUsage:
    """Sees each event of one answer's stream, and says at the end what it used."""

    def __init__(self, provider: str, estimate: Estimate | None = None) -> None:
        """Raises UsageError for a provider whose answers are not known."""
        if not apis_of(provider):
            raise UsageError(f"answers of {provider!r} are not known; give the counts with act.usage")
        self._provider, self._estimate = provider, estimate
        self._api: Api | None = None
        self._answer: dict[str, Any] = {}
        self._ended = False

    def see(self, event: Any) -> None:
        """Take in one event, a dict or an object of the provider's package. What it does not know it lets pass."""
        if self._provider == "anthropic":
            self._see_message(event)
        elif self._provider == "google":
            self._see_content(event)
        elif isinstance(kind := look(event, ("type",)), str) and kind.startswith("response."):
            self._see_response(event, kind)
        else:
            self._see_chunk(event)

    def result(self, *, cut: bool = False) -> Usage:
        """What the answer used. ``partial`` where it was ``cut`` or its end never came; where nothing is known of it,
        the estimate, if there is one.

        Raises UsageMissingError where nothing is known, UsageError where what is known does not add up.
        """
        if self._api is None or look(self._answer, self._api.root) is None:
            if self._estimate is None or self.model is None:
                raise UsageMissingError(_missing(self._provider))
            return Usage(self.model, self._estimate(), status="partial")
        usage = read_usage(self._answer, self._api)
        return usage if self._ended and not cut else replace(usage, status="partial")

    @property
    def ended(self) -> bool:
        """Whether its end has come."""
        return self._ended

    @property
    def over(self) -> bool:
        """Whether nothing more can come of its usage. Chats and Gemini may tell it after their end."""
        return self._ended and self._api in (ANTHROPIC_MESSAGES, OPENAI_RESPONSES)

    @property
    def model(self) -> str | None:
        """Which model answers, once it was told."""
        model = look(self._answer, ("modelVersion" if self._provider == "google" else "model",))
        return model if isinstance(model, str) else None

    def _keep(self, event: Any, names: tuple[str, ...]) -> None:
        for name in names:
            if (value := look(event, (name,))) is not None:
                self._answer[name] = value

    def _see_chunk(self, event: Any) -> None:
        self._api = self._api or next(api for api in apis_of(self._provider) if api is not OPENAI_RESPONSES)
        self._keep(event, _CHAT_ANSWER)
        if (used := look(event, ("usage",))) is not None:
            self._answer["usage"] = used
        choices = elements(look(event, ("choices",)))
        self._ended = self._ended or any(look(choice, ("finish_reason",)) is not None for choice in choices)

    def _see_response(self, event: Any, kind: str) -> None:
        self._api = OPENAI_RESPONSES
        response = look(event, ("response",))
        if response is not None:
            self._keep(response, ("id", "model"))
        if kind in _RESPONSE_ENDS and response is not None:
            self._ended = True
            self._keep(response, ("service_tier", "usage", "output"))

    def _see_message(self, event: Any) -> None:
        self._api = ANTHROPIC_MESSAGES
        match look(event, ("type",)):
            case "message_start":
                message = look(event, ("message",))
                self._keep(message, ("id", "model"))
                self._answer["usage"] = _fields(look(message, ("usage",)))
            case "message_delta":
                self._answer["usage"] = self._answer.get("usage", {}) | _fields(look(event, ("usage",)))
            case "message_stop":
                self._ended = True

    def _see_content(self, event: Any) -> None:
        self._api = GEMINI
        self._keep(event, _GEMINI_ANSWER)
        if (used := look(event, GEMINI.root)) is not None:
            self._answer["usageMetadata"] = used
        candidates = elements(look(event, ("candidates",)))
        finished = (look(candidate, ("finishReason",)) is not None for candidate in candidates)
        blocked = look(event, ("promptFeedback", "blockReason")) is not None
        self._ended = self._ended or blocked or any(finished)


def _fields(used: Any) -> dict[str, Any]:
    """The fields that are told; one that is null tells nothing, and takes nothing back."""
    if isinstance(used, Mapping):
        told: Mapping[str, Any] = used
    else:
        told = {name: look(used, (name,)) for name in names_of(used)}
    return {name: plain(value) for name, value in told.items() if value is not None}


def _missing(provider: str) -> str:
    known = {api.name for api in apis_of(provider)}
    hint = '; ask for it with stream_options={"include_usage": True}' if OPENAI_CHAT.name in known else ""
    return f"the stream of {provider!r} said nothing of its usage{hint}, or give the counts with act.usage"
