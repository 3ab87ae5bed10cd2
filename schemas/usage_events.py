"""Usage events: CloudEvents 1.0 in structured JSON (docs/contract.md, section 3). What is unknown is ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from schemas.fields import Calls, EventId, Flag, Id, OrgId, Time, Tokens, Usd
from schemas.topics import BATCH_EVENTS_MAX


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class ByokClaim(_Message):
    """The runner says that it used this key of its customer."""

    source: Literal["byok"]
    credential_id: Id


class PlatformClaim(_Message):
    """The runner says that it used the platform's key."""

    source: Literal["platform"]


CredentialClaim = Annotated[ByokClaim | PlatformClaim, Field(discriminator="source")]


class _Data(_Message):
    org_id: OrgId
    user_id: Id
    team_id: Id | None = Field(None, description="Absent or null: the user's personal space.")
    run_id: Id | None = None


class NodeCallData(_Data):
    """AI nodes of a workflow that called a model."""

    node: Id = Field(description="ask_ai, categorizer, extract_data, …")
    provider: Id
    model: Id
    calls: Calls = 1
    credential: CredentialClaim | None = Field(None, description="What the runner says it used.")


class TokenUsageData(_Data):
    """Tokens that an agent's model used."""

    agent_id: Id
    provider: Id
    model: Id
    input_tokens: Tokens
    cached_input_tokens: Tokens = Field(0, description="Part of input_tokens.")
    output_tokens: Tokens
    credential: CredentialClaim | None = Field(None, description="What the runner says it used.")

    @model_validator(mode="after")
    def _cached_is_part_of_input(self) -> TokenUsageData:
        if self.cached_input_tokens > self.input_tokens:
            raise ValueError("cached_input_tokens must not exceed input_tokens")
        return self


UNITS_MAX = 64
"""How many units one event may count, and how many conditions it may name."""


class TokenUsageV2Data(_Data):
    """What one request used that a provider answered, retries that were billed included."""

    agent_id: Id
    provider: Id
    model: Id = Field(description="As it is reported; other names that are known of a model are prices of it, too.")
    usage: Annotated[dict[Id, Tokens], Field(min_length=1, max_length=UNITS_MAX)] = Field(
        description="How many of each unit. input and output are all of it; cache_read, reasoning, … lie within them."
    )
    conditions: Annotated[dict[Id, Id], Field(max_length=UNITS_MAX)] = Field(
        {}, description='What the provider says it served, such as {"service_tier": "flex"}.'
    )
    usage_status: Literal["final", "partial"] = Field("final", description="partial: the answer was cut off.")
    provider_request_id: EventId | None = None
    provider_cost_usd: Usd | None = Field(None, description="What the provider says it costs. Never a price.")
    credential: CredentialClaim | None = Field(None, description="What the runner says it used.")


class ToolCallData(_Data):
    """Calls of a tool; failed ones are free."""

    tool: Id
    calls: Calls = 1
    succeeded: Flag = True


class WorkflowRunData(_Data):
    """One run of a workflow, with the run that started it where it is a subflow."""

    workflow_id: Id
    run_id: Id
    parent_run_id: Id | None = None


class _Envelope(_Message):
    specversion: Literal["1.0"]
    id: EventId
    source: EventId
    time: Time = Field(description="The start of the act; RFC 3339 with an offset, years 2000 to 2100.")


class NodeCall(_Envelope):
    """CloudEvent of type usage.node_call.v1."""

    type: Literal["usage.node_call.v1"]
    data: NodeCallData


class TokenUsage(_Envelope):
    """CloudEvent of type usage.token_usage.v1."""

    type: Literal["usage.token_usage.v1"]
    data: TokenUsageData


class TokenUsageV2(_Envelope):
    """CloudEvent of type usage.token_usage.v2."""

    type: Literal["usage.token_usage.v2"]
    data: TokenUsageV2Data


class ToolCall(_Envelope):
    """CloudEvent of type usage.tool_call.v1."""

    type: Literal["usage.tool_call.v1"]
    data: ToolCallData


class WorkflowRun(_Envelope):
    """CloudEvent of type usage.workflow_run.v1."""

    type: Literal["usage.workflow_run.v1"]
    data: WorkflowRunData


UsageMessage = NodeCall | TokenUsage | TokenUsageV2 | ToolCall | WorkflowRun

EVENT_MODELS: dict[str, type[NodeCall] | type[TokenUsage] | type[TokenUsageV2] | type[ToolCall] | type[WorkflowRun]] = {
    "usage.node_call.v1": NodeCall,
    "usage.token_usage.v1": TokenUsage,
    "usage.token_usage.v2": TokenUsageV2,
    "usage.tool_call.v1": ToolCall,
    "usage.workflow_run.v1": WorkflowRun,
}
"""The message of each event type; a type that is not here is ``unsupported_type``."""


class UsageEventOrBatch(RootModel[Any]):
    """The value of one record: an event or a batch of them. Only for the exported schema."""

    root: (
        Annotated[UsageMessage, Field(discriminator="type")]
        | Annotated[
            list[Annotated[UsageMessage, Field(discriminator="type")]],
            Field(min_length=1, max_length=BATCH_EVENTS_MAX),
        ]
    )
