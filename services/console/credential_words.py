"""Of keys, in words: who the providers are, how a key stands and fares, what was done with it, and what helps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from services.console.apis import Json

PROVIDERS: Mapping[str, str] = {
    "anthropic": "Anthropic",
    "deepseek": "DeepSeek",
    "fireworks": "Fireworks AI",
    "google": "Google AI",
    "mistral": "Mistral",
    "openai": "OpenAI",
    "perplexity": "Perplexity",
    "xai": "xAI",
}
MODELS_OF: Mapping[str, str] = {
    "anthropic": "Claude models",
    "google": "Gemini models",
    "openai": "GPT models",
    "xai": "Grok models",
}
LEVELS: Mapping[str, str] = {"personal": "Personal", "team": "Team", "organization": "Organization"}
"""The levels of keys, as people read them."""
PLANS: Mapping[str, str] = {"free": "Free", "pro": "Pro", "enterprise": "Enterprise"}

GOOD, BAD, NEUTRAL = "good", "bad", "neutral"
"""Tones, which are classes of the stylesheet."""


class Said(NamedTuple):
    """Something about a key in a few words, in which tone, and what else there is to say of it."""

    words: str
    tone: str
    more: str = ""


def provider_name(provider: str) -> str:
    """As its maker writes it; one that we do not know as the card does."""
    return PROVIDERS.get(provider, provider)


_SHADOWED: Mapping[str, Said] = {
    "organization_key": Said(
        "Your organization's key is used instead",
        NEUTRAL,
        "Nobody can go around a key that the organization has for a provider. This one is used again once that ends.",
    ),
    "plan_not_entitled": Said(
        "Not used: your plan does not include it",
        BAD,
        "It is kept, and is used again once the plan includes keys of this level.",
    ),
    "provider_not_supported": Said(
        "Not used: this provider takes no own keys at present", BAD, "It is kept, and is used again once it does."
    ),
}
_STATUS: Mapping[str, Said] = {
    "active": Said("In use", GOOD),
    "disabled": Said("Switched off", NEUTRAL, "It is kept, and not used until it is switched on again."),
    "lost": Said("Lost", BAD, "The key went with a database. Paste it again under “Replace the key”, or delete it."),
    "deleted": Said("Deleted", NEUTRAL, "The key was destroyed. What it was used for stays in the ledger."),
}


def status_of(credential: Json) -> Said:
    """How a key stands."""
    if credential["status"] == "shadowed":
        return _SHADOWED.get(credential["shadowed_by"], Said("Not used", BAD))
    return _STATUS[credential["status"]]


_NOT_SAID: Mapping[str, str] = {
    "forbidden": "it knows the key, which may not do what we ask with; a restricted key may still do its work",
    "rate_limited": "it is asked too often at present",
    "provider_error": "it has trouble of its own",
    "redirected": "it sends us elsewhere",
    "unexpected_answer": "its answer is none that we know",
    "timed_out": "it took too long to answer",
    "unreachable": "it cannot be reached from here",
    "busy": "too many keys are being checked at once",
    "not_verifiable": "it cannot be asked from here",
}


def check_of(credential: Json) -> Said | None:
    """What its provider thinks of a key; None where nobody asked, or the reader is not told."""
    check, name = credential["check"], provider_name(credential["provider"])
    if check is None:
        return None
    match check["result"]:
        case "valid":
            return Said(f"{name} takes this key", GOOD)
        case "invalid":
            return Said(
                f"{name} does not take this key",
                BAD,
                f"Copy it again at {name}, whole, and paste it under “Replace the key”. Calls with this one fail.",
            )
        case _:
            why = _NOT_SAID.get(check["reason"], "it did not say")
            return Said(f"{name} could not say whether it takes this key", NEUTRAL, f"{why.capitalize()}.")


_HEALTH: Mapping[str, Said] = {
    "accepted": Said("Worked when it was last used", GOOD),
    "rejected": Said(
        "Refused when it was last used", BAD, "Check it now; if it stays so, paste a new one under “Replace the key”."
    ),
    "exhausted": Said(
        "Out of quota or credit when it was last used", BAD, "Add credit, or raise the limit, at the provider."
    ),
}


def health_of(credential: Json) -> Said | None:
    """How a key fared, as runners reported it; None where nobody did, or the reader is not told."""
    health = credential["health"]
    return None if health is None else _HEALTH[health["outcome"]]


_APPLIES: Mapping[str, Said] = {
    "organization_key": Said("Your organization's key", GOOD, "It goes before all others."),
    "team_key": Said("The team's key", GOOD),
    "personal_key": Said("Your own key", GOOD),
    "no_credential": Said("The platform's key, at the full price", NEUTRAL, "There is no key for this provider."),
    "plan_not_entitled": Said("The platform's key, at the full price", NEUTRAL, "Your plan does not include own keys."),
    "provider_not_supported": Said("The platform's key, at the full price", NEUTRAL, "It takes no own keys."),
    "credential_lost": Said("None: the key is lost", BAD, "Paste it again, or delete it; until then calls fail."),
    "credential_unusable": Said("None: the key cannot be read", BAD, "Tell an operator; until then calls fail."),
}


def applies(reason: str) -> Said:
    """Which key is used now, by why (docs/contract.md, section 4), or by why none can be."""
    return _APPLIES.get(reason, Said(reason, NEUTRAL))


EVENTS: Mapping[str, str] = {
    "credential.add": "Added",
    "credential.change": "Changed",
    "credential.rotate": "Key replaced",
    "credential.undo_rotation": "Key before brought back",
    "credential.verify": "Checked",
    "credential.revoke": "Deleted",
    "credential.report": "Reported by a runner",
    "credential.lost": "Lost with a database",
}
"""What the history of a key tells; that it was looked at or leased is no part of it."""


def event_of(row: Json) -> str:
    """A row of the audit log in words."""
    said, detail = EVENTS.get(row["action"], row["action"]), row["detail"]
    if "enabled" in detail:
        said = "Switched on" if detail["enabled"] == "true" else "Switched off"
    elif "label" in detail:
        said = "Renamed"
    elif "result" in detail:
        why = f" ({detail['reason'].replace('_', ' ')})" if detail["reason"] in _NOT_SAID else ""
        said = f"{said}: {detail['result']}{why}"
    elif "outcome" in detail:
        said = f"{said}: {detail['outcome']}"
    return said
