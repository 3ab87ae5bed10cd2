"""A key as people paste it: what came along with it is taken off, and whose it looks like. Pure; hints, never gates."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from pydantic import SecretStr

from services.domain.masking import mask_text

# Of all that a web page or a text may put around a key: quotation marks of many languages, and backticks.
_QUOTES = "\"'`´‘’‚‛“”„‟«»‹›＂＇"
_UNSEEN = frozenset({"Cf", "Cc", "Zs", "Zl", "Zp"})

# By how keys begin; the first that fits decides, so what is longer stands first.
_BEGINNINGS: Mapping[str, frozenset[str]] = {
    "sk-ant-": frozenset({"anthropic"}),
    "sk-proj-": frozenset({"openai"}),
    "sk-svcacct-": frozenset({"openai"}),
    "sk-admin-": frozenset({"openai"}),
    "sk-": frozenset({"openai", "deepseek"}),
    "AIza": frozenset({"google"}),
    "AQ.": frozenset({"google"}),
    "xai-": frozenset({"xai"}),
    "fw_": frozenset({"fireworks"}),
}


def pasted_key(text: str) -> SecretStr:
    """The key in what was pasted: without characters that nobody sees, space and quotation marks around it."""
    seen = "".join(character for character in text if unicodedata.category(character) != "Cf")
    start, end = 0, len(seen)
    while start < end and _is_around(seen[start]):
        start += 1
    while end > start and _is_around(seen[end - 1]):
        end -= 1
    return SecretStr(seen[start:end])


def _is_around(character: str) -> bool:
    return character in _QUOTES or unicodedata.category(character) in _UNSEEN


def without_key(text: str) -> str:
    """What was put into a field that holds no key; nothing where one is in it by mistake, for pages repeat fields."""
    return text if mask_text(text) == text else ""


def looks_like(key: SecretStr) -> frozenset[str]:
    """The providers whose keys begin like this one; none where nothing can be said."""
    text = key.get_secret_value()
    return next((owners for beginning, owners in _BEGINNINGS.items() if text.startswith(beginning)), frozenset())


def looks_of_others(key: SecretStr, provider: str) -> tuple[str, ...]:
    """Whose key this seems to be where it does not seem to be the provider's; mostly nobody's."""
    owners = looks_like(key)
    return () if provider in owners else tuple(sorted(owners))
