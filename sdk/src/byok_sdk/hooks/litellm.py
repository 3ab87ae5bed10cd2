"""LiteLLM, as a package and as a proxy: ``litellm.callbacks = [ByokLogger(meter)]``.

LiteLLM calls its hooks once, twice (from a thread and on its event loop) or, for a stream that is left early, never.
All that come end in one function that records each call once.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from byok_sdk.meter import Meter
from byok_sdk.observed import Observed, Tags, ledger_name
from byok_sdk.observer import Describe
from byok_sdk.usage.answers import look
from byok_sdk.usage.apis import LITELLM, apis_of
from byok_sdk.usage.extraction import read_usage, usage_of
from byok_sdk.usage.measured import Usage

_EMBEDDINGS = ("embedding", "aembedding")
_REQUEST_ID_BYTES_MAX = 256


class ByokLogger(CustomLogger):
    """Records each call that a provider answered; an answer out of LiteLLM's cache was none.

    Whose call it was says ``metadata=run.tags(…)``. On a proxy the key that it has authenticated says so (its
    organization, team and user, or the same tags in the key's own metadata); of what callers send only run, agent and
    step count, and the user where the key has none.
    """

    def __init__(self, meter: Meter, *, org: str | None = None, trust_callers: bool = False) -> None:
        """``org`` is charged where nothing says another. ``trust_callers``: what the callers of a proxy say of
        themselves goes first, and so anyone with a key of it can charge anyone.
        """
        super().__init__()
        self._observer = meter.observer
        self._org, self._trust_callers = org, trust_callers

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:  # noqa: ARG002
        """The hook of LiteLLM's threads."""
        describe, once = self._told(kwargs, response_obj, start_time)
        self._observer.see(describe, once=once)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:  # noqa: ARG002
        """The hook of its event loop, which does not wait for our disk."""
        describe, once = self._told(kwargs, response_obj, start_time)
        await self._observer.see_async(describe, once=once)

    def _told(self, kwargs: Mapping[str, Any], response: Any, began: datetime) -> tuple[Describe, Hashable]:
        # Both hooks of a call have these in common. A client of a proxy may choose the id, but not the time.
        once = ("litellm", kwargs.get("litellm_call_id"), kwargs.get("api_call_start_time") or began)
        return lambda: self._describe(kwargs, response, began), once

    def _describe(self, kwargs: Mapping[str, Any], response: Any, began: datetime) -> Observed | None:
        if kwargs.get("cache_hit") is True:
            return None
        provider = ledger_name(str(kwargs.get("custom_llm_provider")))
        usage = _of_the_provider(kwargs, provider) or _of_litellm(kwargs, response)
        return Observed(
            self._tags(kwargs), provider, usage, began.astimezone(), "litellm", kwargs.get("litellm_call_id")
        )

    def _tags(self, kwargs: Mapping[str, Any]) -> Tags:
        told = _metadata(kwargs)
        callers = {**_tags(told.get("requester_metadata")), **_tags(told)}
        if not _by_proxy(kwargs):
            return {"byok_org": self._org, **callers}
        keys = {
            "byok_org": told.get("user_api_key_org_id") or self._org,
            "byok_team": told.get("user_api_key_team_id"),
            "byok_user": told.get("user_api_key_user_id")
            or callers.get("byok_user")
            or told.get("user_api_key_end_user_id"),
            **_tags(told.get("user_api_key_metadata")),
        }
        if self._trust_callers:
            return {**keys, **callers}
        return {**{name: callers.get(name) for name in ("byok_run", "byok_agent", "byok_step")}, **keys}


def _metadata(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    params = kwargs.get("litellm_params") or {}
    return {**(params.get("metadata") or {}), **(params.get("litellm_metadata") or {})}


def _tags(told: Any) -> dict[str, Any]:
    named = told.items() if isinstance(told, Mapping) else ()
    return {name: value for name, value in named if name.startswith("byok_") and value is not None}


def _by_proxy(kwargs: Mapping[str, Any]) -> bool:
    params = kwargs.get("litellm_params") or {}
    return bool(params.get("proxy_server_request")) or "user_api_key" in _metadata(kwargs)


def _of_the_provider(kwargs: Mapping[str, Any], provider: str) -> Usage | None:
    """From the provider's own answer, where LiteLLM has kept it: of no stream, and not where it is to keep no texts."""
    if kwargs.get("stream") or kwargs.get("call_type") in _EMBEDDINGS or not apis_of(provider):
        return None
    try:
        answer = json.loads(kwargs.get("original_response") or "")
    except (TypeError, ValueError):
        return None
    return usage_of(answer, provider)


def _of_litellm(kwargs: Mapping[str, Any], response: Any) -> Usage:
    """From what LiteLLM made of it. Of a stream that said nothing of its usage it has counted the words itself; such
    counts have no details, and are ``partial``. So is what it tells of a stream that the caller of a proxy has left.
    """
    usage = read_usage(response, LITELLM)
    counted = bool(kwargs.get("stream")) and look(response, ("usage", "prompt_tokens_details")) is None
    left = bool(_metadata(kwargs).get("client_disconnected"))
    response_id = usage.response_id
    if response_id is not None and len(response_id.encode()) > _REQUEST_ID_BYTES_MAX:
        # A proxy wraps ids of responses in others, which are longer and never the same twice.
        response_id = None
    return replace(
        usage,
        model=_model(kwargs, usage.model),
        status="partial" if counted or left else "final",
        response_id=response_id,
    )


def _model(kwargs: Mapping[str, Any], reported: str) -> str:
    """As reported, without LiteLLM's prefix. A proxy reports names of its own, so there it is the one it asked for."""
    model = str(kwargs.get("model")) if _by_proxy(kwargs) else reported
    return model.removeprefix(f"{kwargs.get('custom_llm_provider')}/")
