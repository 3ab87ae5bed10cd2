"""The bodies of requests. Whatever a request has beyond these fields is refused."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, WithJsonSchema, model_validator

from schemas.fields import Id, Time
from services.domain.masking import mask_text
from services.domain.scope import Scope, ScopeType
from services.key_registry.handlers.changes import UNCHANGED, Edit
from services.key_registry.rules.health import Outcome, Report

_API_KEY = re.compile(r"[\x21-\x7e]{8,4096}")
_AROUND = " \t\r\n"
_API_KEY_SCHEMA = {
    "type": "string",
    "format": "password",
    "writeOnly": True,
    "pattern": r"^[ \t\r\n]*[!-~]{8,4096}[ \t\r\n]*$",
}


def _api_key(value: SecretStr) -> SecretStr:
    # White space around a key comes of copying it. Within, a key that was pasted with more than itself is a mistake.
    key = value.get_secret_value().strip(_AROUND)
    if _API_KEY.fullmatch(key) is None:
        raise ValueError("must be 8 to 4096 printable ASCII characters without spaces")
    return SecretStr(key)


def _label(value: str) -> str:
    if mask_text(value) != value:
        raise ValueError("looks like a key; the key belongs into api_key")
    return value


ApiKey = Annotated[SecretStr, AfterValidator(_api_key), WithJsonSchema(_API_KEY_SCHEMA)]
Label = Annotated[
    str, Field(strict=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$"), AfterValidator(_label)
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ScopeBody(_Request):
    """Whose key it is."""

    type: Literal["organization", "team", "personal"]
    id: Id = Field(description="The id of the organization, the team or the user.")

    def to_domain(self) -> Scope:
        """The same in the words of the domain."""
        return Scope(ScopeType(self.type), self.id)


class CredentialRequest(_Request):
    """A key to be added."""

    scope: ScopeBody
    provider: Id
    api_key: ApiKey
    label: Label | None = None
    org_id: Id | None = Field(None, description="Needed where the token is good for every organization.")
    effective_from: Time | None = Field(None, description="Not in the future; needs the scope registry:backdate.")

    @model_validator(mode="after")
    def _label_holds_no_key(self) -> CredentialRequest:
        if self.label is not None and self.api_key.get_secret_value() in self.label:
            raise ValueError("label must not hold the key")
        return self


class ChangeRequest(_Request):
    """What can be changed about a credential; what is absent stays as it is."""

    label: Label | None = None
    enabled: bool | None = Field(
        None, strict=True, description="false: not used until it is true again; refused then as an addition would be."
    )

    @model_validator(mode="after")
    def _says_something(self) -> ChangeRequest:
        if not self.model_fields_set:
            raise ValueError("give a label, or enabled, or both")
        if "enabled" in self.model_fields_set and self.enabled is None:
            raise ValueError("enabled is true or false")
        return self

    def to_edit(self) -> Edit:
        """The same in the words of the use case."""
        return Edit(
            label=self.label if "label" in self.model_fields_set else UNCHANGED,
            enabled=self.enabled,
        )


class RotationRequest(_Request):
    """The key that is to take the place of the one in use."""

    api_key: ApiKey


class PlanRequest(_Request):
    """The plan to put an organization on."""

    plan: Literal["free", "pro", "enterprise"]
    effective_from: Time | None = Field(None, description="Not in the future; needs the scope registry:backdate.")


class LeaseRequest(_Request):
    """Who is about to use a model of which provider."""

    org_id: Id | None = Field(None, description="Needed where the token is good for every organization.")
    user_id: Id
    team_id: Id | None = Field(None, description="Absent or null: the user's personal space.")
    provider: Id


class ResolveRequest(LeaseRequest):
    """The same, at any time."""

    at: Time | None = Field(None, description="Absent: now.")


class ReportRequest(_Request):
    """How a key fared at its provider."""

    outcome: Literal["rejected", "exhausted", "accepted"] = Field(
        description="`rejected`: the provider does not take it (401, 403); `exhausted`: its quota or credit is used up."
    )
    at: Time = Field(description="When it answered; at most 5 minutes ahead of the registry's clock, and a day old.")
    detail: Annotated[str, Field(strict=True, max_length=200)] | None = Field(
        None, description="What it said. Whatever looks like a key is masked."
    )
    leased_at: Time | None = Field(
        None,
        description="The `at` of the lease that the key came with: by it a report on the key before a rotation, which a"
        " runner may have used for a while after, is told from one on the key in use. Absent: by the time itself.",
    )

    def to_domain(self) -> Report:
        """The same in the words of the use case."""
        return Report(Outcome(self.outcome), self.at, self.detail, self.leased_at)
