"""The codes of the contract as sentences for people, each with what helps: reasons, flags, refusals, what was done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from schemas.dead_letters import Reason

# Why a key was taken, or none (docs/contract.md, section 4).
REASONS: Mapping[str, str] = {
    "organization_key": "Your organization's key was used.",
    "team_key": "Your team's key was used.",
    "personal_key": "The user's own key was used.",
    "claimed_key": "The key that the runner named was used.",
    "no_credential": "There was no key of your own for this provider; add one to pay less.",
    "plan_not_entitled": "Your plan at that time did not include own keys; Pro and Enterprise do.",
    "provider_not_supported": "This provider does not take own keys.",
    "platform_claimed": "The runner used the platform's key.",
    "not_model_usage": "No model was called, so no key was needed.",
}
"""Why this key source, by the entry's ``reason``."""

FLAGS: Mapping[str, str] = {
    "platform_fallback": "Your key was not used although there was one: often the provider refused it. Verify it, and"
    " rotate it if it is refused.",
    "organization_key_bypassed": "A runner used another key than your organization's. Its runner should ask again"
    " which key applies.",
    "credential_claim_rejected": "The runner named a key that could not have been used; the rules decided instead.",
    "usage_partial": "The stream was cut off, so the provider's own count may be higher.",
}
"""What an entry's flag means, and what to do."""

WHAT_TO_DO: Mapping[str, str] = {
    Reason.MALFORMED_JSON: "Mend the sender: what it sent is no JSON in UTF-8. Send the events again under their ids.",
    Reason.BATCH_TOO_LARGE: "Send at most 1,000 events and 4 MiB at once. Send these again in smaller batches.",
    Reason.UNSUPPORTED_TYPE: "Send one of the types that the contract has. If it is a newer one, an operator upgrades"
    " and runs byok dead-letters replay.",
    Reason.INVALID_EVENT: "Mend the field that the detail names, and send the event again under its id.",
    Reason.TIME_IN_FUTURE: "Set the sender's clock right. Once the time has come, an operator runs"
    " byok dead-letters replay.",
    Reason.NO_RATE_CARD: "An operator publishes a rate card that is in force at the event's time, and runs"
    " byok dead-letters replay --priced.",
    Reason.UNPRICED_MODEL: "An operator publishes a rate card that lists the model, or adds the name as another one of"
    " a model, and runs byok dead-letters replay --priced.",
    Reason.UNPRICED_UNIT: "An operator publishes a rate card that prices what the detail names, and runs"
    " byok dead-letters replay --priced.",
    Reason.UNPRICED_CONDITION: "An operator publishes a rate card that says what the condition costs, and runs"
    " byok dead-letters replay --priced.",
    Reason.IDENTITY_CONFLICT: "Its id is booked with other contents, which stay. Give each act an id of its own, and"
    " send it again under that.",
}
"""For each reason of a dead letter, to whom it is sent back."""

DONE: Mapping[str, str] = {
    "preferences_kept": "Saved: this browser shows times and amounts this way from now on.",
    "credential_added": "Saved. AI calls use this key from now on, where it applies.",
    "credential_checked": "Checked just now; the answer is below.",
    "credential_replaced": "Replaced. The new key is used from now on.",
    "credential_brought_back": "Brought back. The key before is used again, and the other one was destroyed.",
    "credential_switched_off": "Switched off. The key is kept, and not used until you switch it on again.",
    "credential_switched_on": "Switched on. The key is used from now on, where it applies.",
    "credential_renamed": "Saved: the label was changed.",
    "credential_deleted": "Deleted. The key was destroyed, and is not used any more.",
}
"""What was just done, by the word that a page's URL has for it (``Visit.go_to(…, told=…)``)."""


class Trouble(NamedTuple):
    """What a page says that could not be shown."""

    heading: str
    remedy: str


def trouble(status: int, code: str, service: str | None = None) -> Trouble:
    """What to say of a refusal, by its code, else by its status."""
    if code == "service_away":
        return Trouble(
            f"The {service} is away",
            "Nothing is lost: usage goes on being recorded. Try again in a minute; if it stays away, tell an operator.",
        )
    return _BY_CODE.get(code) or _BY_STATUS.get(status) or (_OURS if status >= 500 else _REFUSED)


_OURS = Trouble("Something went wrong here", "It has been logged. Try again; if it happens again, tell an operator.")
_REFUSED = Trouble("This did not work", "Go back, change what you asked for, and try again.")
_BY_CODE: dict[str, Trouble] = {
    "organization_forbidden": Trouble("Not your organization", "Choose an organization that you belong to."),
    "insufficient_scope": Trouble(
        "You may not see this", "An administrator of your organization can; ask one, or sign in as somebody else."
    ),
    "sessions_unknown": Trouble(
        "The key registry is away",
        "Whether you have signed out everywhere cannot be asked, so nothing was changed. Try again in a minute.",
    ),
    "provider_away": Trouble(
        "Your identity provider is away", "Your session could not be renewed. Try again in a minute; nothing is lost."
    ),
    "foreign_form": Trouble(
        "This form was not sent from here, or is too old", "Nothing was changed. Open the page again, and send it anew."
    ),
}
_BY_CODE |= {
    "credential_exists": Trouble(
        "There is a key for this provider already",
        "Open it and replace it there: so nothing is without a key meanwhile.",
    ),
    "organization_key_enforced": Trouble(
        "Your organization has a key for this provider",
        "It is used for everybody, so no other can be added. Ask an administrator if you need one of your own.",
    ),
    "plan_not_entitled": Trouble(
        "Your plan does not include keys of this level",
        "Pro includes personal and team keys, Enterprise also the organization's. Nothing was saved.",
    ),
    "provider_not_supported": Trouble("This provider takes no own keys", "Select one of the list. Nothing was saved."),
    "forbidden": Trouble(
        "You may not do this with this key", "Its owner can, or an administrator. Nothing was changed."
    ),
    "precondition_failed": Trouble(
        "Somebody else has changed this key meanwhile",
        "Nothing was changed now. Below is how it is at present: look at it, and decide anew.",
    ),
    "key_invalid": Trouble(
        "The provider does not take this key",
        "The one in use was left in its place. Copy the new key again, whole, and paste it.",
    ),
    "key_unchanged": Trouble("This is the key that is in use", "Nothing was changed. Paste the new one."),
    "nothing_to_undo": Trouble(
        "There is no key to bring back",
        "None was replaced, or the time for it is over. Paste the old one as a new one.",
    ),
    "credential_deleted": Trouble("This key was deleted", "Add it again, if you still want to use it."),
    "idempotency_key_reused": Trouble("This form was sent already", "Look at the list before you send it again."),
    "rate_limited": Trouble("Too many requests", "Wait a few seconds, and try again. Nothing was changed."),
    "registry_behind": Trouble(
        "Keys cannot be changed at present",
        "The registry of keys was restored, and lacks changes. An operator has to bring them back first.",
    ),
    "registry_unconfirmed": Trouble("Keys cannot be changed at this moment", "Try again in a minute."),
    "clock_behind_log": Trouble("Keys cannot be changed at this moment", "A clock is wrong. Try again in a minute."),
}
_BY_STATUS = {
    403: Trouble("You may not do this", "Ask an administrator of your organization, or sign in as somebody else."),
    404: Trouble("There is no such page", "It may have been moved, or be somebody else's. Begin again from the menu."),
    422: Trouble("This cannot be used", "Go back, change what is named, and try again."),
    429: Trouble("Too many requests", "Wait a few seconds, and try again."),
    503: Trouble("Not possible at present", "Try again in a minute, or ask for less at once."),
}
