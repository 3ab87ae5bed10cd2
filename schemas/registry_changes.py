"""Registry changes: the one ordered log of everything that can move a price (docs/contract.md, section 2)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from schemas.fields import Id

Seq = Annotated[int, Field(strict=True, ge=1, description="Rises in commit order; the topic holds it in that order.")]


class _Message(BaseModel):
    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        serialize_by_alias=True,
        # What we write always holds every field, and the exported schema says so.
        json_schema_serialization_defaults_required=True,
    )


class ActiveInterval(_Message):
    """Half-open ``[from, to)``; a ``to`` of null is open."""

    from_: AwareDatetime = Field(alias="from")
    to: AwareDatetime | None = None


class PlanInterval(ActiveInterval):
    """The plan that held in an interval."""

    plan: Literal["free", "pro", "enterprise"]


class ScopeRef(_Message):
    """Whose key it is."""

    type: Literal["organization", "team", "personal"]
    id: Id


class CredentialChange(_Message):
    """The whole non-secret history of one credential."""

    seq: Seq
    kind: Literal["credential"] = "credential"
    changed_at: AwareDatetime
    credential_id: Id
    org_id: Id
    scope: ScopeRef
    provider: Id
    hint: str = Field(description="An ellipsis and the key's last four characters; nothing of a key under 16.")
    active: tuple[ActiveInterval, ...]

    @property
    def key(self) -> str:
        """The record's key."""
        return f"credential:{self.credential_id}"


class PlanChange(_Message):
    """The whole plan history of one organization."""

    seq: Seq
    kind: Literal["plan"] = "plan"
    changed_at: AwareDatetime
    org_id: Id
    plans: tuple[PlanInterval, ...]

    @property
    def key(self) -> str:
        """The record's key."""
        return f"plan:{self.org_id}"


class RateCardChange(_Message):
    """One dated rate card; never overwritten."""

    seq: Seq
    kind: Literal["rate_card"] = "rate_card"
    changed_at: AwareDatetime
    card: Id
    effective_from: AwareDatetime
    body: dict[str, Any]

    @property
    def key(self) -> str:
        """The record's key."""
        return f"rate_card:{self.card}"


class ModelAliasesChange(_Message):
    """Every other name that runners report for models of one provider; one is only ever added."""

    seq: Seq
    kind: Literal["model_aliases"] = "model_aliases"
    changed_at: AwareDatetime
    provider: Id
    aliases: dict[Id, Id] = Field(description="To each of them, to the letter, the name that rate cards list.")

    @property
    def key(self) -> str:
        """The record's key."""
        return f"model_aliases:{self.provider}"


RegistryChange = CredentialChange | PlanChange | RateCardChange | ModelAliasesChange

REGISTRY_CHANGE: TypeAdapter[RegistryChange] = TypeAdapter(Annotated[RegistryChange, Field(discriminator="kind")])
"""Reads and writes the value of one record of ``byok.registry-changes``."""
