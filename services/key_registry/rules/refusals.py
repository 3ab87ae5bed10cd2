"""By which stable codes the registry refuses."""

from __future__ import annotations

from enum import StrEnum

from services.runtime.refusals import Refusal


class Code(StrEnum):
    """The codes of docs/contract.md, section 8 that a use case can answer with."""

    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    ORGANIZATION_FORBIDDEN = "organization_forbidden"
    INVALID_REQUEST = "invalid_request"
    PROVIDER_NOT_SUPPORTED = "provider_not_supported"
    PLAN_NOT_ENTITLED = "plan_not_entitled"
    CREDENTIAL_EXISTS = "credential_exists"
    CREDENTIAL_OVERLAP = "credential_overlap"
    ORGANIZATION_KEY_ENFORCED = "organization_key_enforced"
    HISTORY_TOO_LONG = "history_too_long"
    CREDENTIAL_UNUSABLE = "credential_unusable"
    CREDENTIAL_LOST = "credential_lost"
    CREDENTIAL_DELETED = "credential_deleted"
    PRECONDITION_FAILED = "precondition_failed"
    KEY_INVALID = "key_invalid"
    KEY_UNCHANGED = "key_unchanged"
    NOTHING_TO_UNDO = "nothing_to_undo"
    AHEAD_OF_LOG = "ahead_of_log"
    ALIAS_EXISTS = "alias_exists"
    UNKNOWN_MODEL = "unknown_model"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"


def not_found() -> Refusal:
    """The same answer for what does not exist and for what the caller may not know of."""
    return Refusal(Code.NOT_FOUND, "There is no such credential.")
