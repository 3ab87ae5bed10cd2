"""What providers are asked about a key, and what their answers mean. Pure; from the providers' own API references.

There are three results. Only an answer that says the key itself is refused means ``invalid``: an ``invalid`` key cannot
be rotated in, so whatever may be a restricted key, a spent budget, an outage or a proxy on the way is ``unknown``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any, NamedTuple


class Result(StrEnum):
    """Whether the provider takes the key."""

    VALID = "valid"
    INVALID = "invalid"
    UNKNOWN = "unknown"


class CheckReason(StrEnum):
    """Why that result."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FORBIDDEN = "forbidden"
    """The provider knows the key, which may not do what we asked: a restricted key may still do its work."""
    RATE_LIMITED = "rate_limited"
    PROVIDER_ERROR = "provider_error"
    REDIRECTED = "redirected"
    UNEXPECTED_ANSWER = "unexpected_answer"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    BUSY = "busy"
    """Too many checks were under way here."""
    NOT_VERIFIABLE = "not_verifiable"
    """We know no way to ask this provider, or are told not to."""


class Verdict(NamedTuple):
    """What became of one question."""

    result: Result
    reason: CheckReason


def unknown(reason: CheckReason) -> Verdict:
    """A question without an answer."""
    return Verdict(Result.UNKNOWN, reason)


class Probe(NamedTuple):
    """The cheapest question that needs the key: a GET, with the key in a header and never in the URL."""

    base_url: str
    path: str
    headers: Callable[[str], Mapping[str, str]]


_ACCEPTED = Verdict(Result.VALID, CheckReason.ACCEPTED)
_REJECTED = Verdict(Result.INVALID, CheckReason.REJECTED)


def _bearer(key: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _anthropic(key: str) -> Mapping[str, str]:
    return {"x-api-key": key, "anthropic-version": "2023-06-01"}


def _google(key: str) -> Mapping[str, str]:
    return {"x-goog-api-key": key}


PROBES: Mapping[str, Probe] = {
    "openai": Probe("https://api.openai.com", "/v1/models", _bearer),
    "anthropic": Probe("https://api.anthropic.com", "/v1/models?limit=1", _anthropic),
    "google": Probe("https://generativelanguage.googleapis.com", "/v1beta/models?pageSize=1", _google),
    "xai": Probe("https://api.x.ai", "/v1/api-key", _bearer),
    "deepseek": Probe("https://api.deepseek.com", "/user/balance", _bearer),
    "fireworks": Probe("https://api.fireworks.ai", "/inference/v1/models", _bearer),
}


def verdict(provider: str, status: int, body: bytes) -> Verdict:
    """What an answer to the provider's probe means. Nothing of ``body`` is kept: it may repeat the key."""
    answer = _object(body)
    if status == HTTPStatus.OK:
        return unknown(CheckReason.UNEXPECTED_ANSWER) if answer is None else _accepted(provider, answer)
    if _says_rejected(provider, status, answer or {}):
        return _REJECTED
    return unknown(_reason(status))


def _accepted(provider: str, answer: Mapping[str, Any]) -> Verdict:
    # xAI describes a key that its owner has switched off instead of refusing it.
    if provider == "xai" and (answer.get("api_key_blocked") is True or answer.get("api_key_disabled") is True):
        return _REJECTED
    return _ACCEPTED


def _says_rejected(provider: str, status: int, answer: Mapping[str, Any]) -> bool:
    if status == HTTPStatus.UNAUTHORIZED:
        return not (provider == "openai" and _lacks_a_scope(answer))
    if status == HTTPStatus.BAD_REQUEST:
        return provider == "xai" or (provider == "google" and _is_no_google_key(answer))
    return False


def _lacks_a_scope(answer: Mapping[str, Any]) -> bool:
    """OpenAI tells a restricted key that it may not list models with 401 too, in words."""
    said = str(_error(answer).get("message", "")).lower()
    return "missing scopes" in said or "insufficient permissions" in said


def _is_no_google_key(answer: Mapping[str, Any]) -> bool:
    """Google answers 400 to a key that is unknown or expired, and names it in the details of the error."""
    details = _error(answer).get("details")
    reasons = (
        [detail.get("reason") for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
    )
    return "API_KEY_INVALID" in reasons


def _error(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    error = answer.get("error")
    return error if isinstance(error, dict) else {}


def _reason(status: int) -> CheckReason:
    if status == HTTPStatus.UNAUTHORIZED or status == HTTPStatus.FORBIDDEN:
        return CheckReason.FORBIDDEN
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return CheckReason.RATE_LIMITED
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return CheckReason.REDIRECTED
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return CheckReason.PROVIDER_ERROR
    return CheckReason.UNEXPECTED_ANSWER


def _object(body: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
