"""Entries in words: what was done, of which kind an entry is, whose key was used, what a flag says in short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.console.apis import Json

EVENT_TYPES: Mapping[str, str] = {
    "usage.node_call.v1": "Node calls",
    "usage.token_usage.v1": "Tokens of agents",
    "usage.token_usage.v2": "Requests of agents",
    "usage.tool_call.v1": "Tool calls",
    "usage.workflow_run.v1": "Workflow runs",
}
"""What is used, by the type of the event."""

KINDS: Mapping[str, str] = {
    "charge": "Charge",
    "reversal": "Taken back",
    "correction": "Corrected",
}
"""What an entry does."""

KINDS_MEAN: Mapping[str, str] = {
    "charge": "The event as it was booked first.",
    "reversal": "Takes an earlier entry of the same event back, amount for amount, because something became known"
    " later.",
    "correction": "The same event, booked anew with what became known later, in place of what was taken back.",
}
"""What that means."""

KEY_SOURCES: Mapping[str, str] = {"byok": "own key", "platform": "platform's key", "none": "no model"}
"""Whose key was used."""

LEVELS: Mapping[str, str] = {"organization": "organization", "team": "team", "personal": "personal"}
"""Of which level an own key is."""

KEYS_IN_SHORT: Mapping[str, str] = {
    "organization_key": "Organization's key",
    "team_key": "Team's key",
    "personal_key": "Personal key",
    "claimed_key": "Key the runner named",
    "no_credential": "Platform's key: no own one",
    "plan_not_entitled": "Platform's key: by the plan",
    "provider_not_supported": "Platform's key: no own ones here",
    "platform_claimed": "Platform's key, says the runner",
    "not_model_usage": "No model, no key",
}
"""Which key, by the entry's ``reason``, for a line of a list."""

FLAGS_IN_SHORT: Mapping[str, str] = {
    "platform_fallback": "your key was not used",
    "organization_key_bypassed": "another key than the organization's",
    "credential_claim_rejected": "the runner named a wrong key",
    "usage_partial": "cut off",
}
"""What a flag says."""

RULES: Mapping[str, str] = {
    "claim": "What the runner said",
    "organization": "Organization's key",
    "team": "Team's key",
    "personal": "Personal key",
    "platform": "Platform's key",
}
"""The keys that come into question, by the rule that looks at them."""

UNITS: Mapping[str, str] = {
    "calls": "calls",
    "runs": "run",
    "input": "input tokens",
    "output": "output tokens",
    "cache_read": "tokens read from the cache",
    "web_search": "web searches",
}
"""What is counted; other units of a card have their names."""

CAUSES: Mapping[str, str] = {
    "credential": "a key's times became known",
    "plan": "the plan became known",
    "rate_card": "a rate card was published",
    "model_aliases": "another name of a model became known",
}
"""Why an entry was booked anew, by the kind of the registry's change."""


def act(entry: Json) -> str:
    """What was done, in a few words: ``ask_ai on openai/gpt-4.1``."""
    model = f"{entry['provider']}/{entry['model']}" if entry["provider"] else ""
    doer = entry["node"] or entry["tool"] or entry["agent_id"] or entry["workflow_id"] or ""
    return " on ".join(part for part in (doer, model) if part) or str(entry["event_type"])


def counted(entry: Json) -> str:
    """How much of it: ``3 calls``, ``1,311 tokens``, ``1 run``; of what is taken back as much as was booked."""
    number = abs(int(entry["quantity"]))
    what = {"usage.token_usage.v1": "token", "usage.token_usage.v2": "token", "usage.workflow_run.v1": "run"}
    name = what.get(entry["event_type"], "call")
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def flags_met(entries: Sequence[Json]) -> list[str]:
    """The flags that any of these entries carries, each once."""
    return sorted({flag for entry in entries for flag in entry["flags"]})
