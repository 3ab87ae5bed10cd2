"""The ledger's tables and its view as this service reads them. It never writes them, and its connections cannot."""

from __future__ import annotations

from datetime import datetime
from typing import cast
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, DateTime, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

_UTC = DateTime(timezone=True)


class EntryColumns(SQLModel):
    """The columns of the view ``ledger.entries`` (docs/contract.md, section 6). Amounts are in mc; times in UTC."""

    entry_id: UUID = Field(primary_key=True)
    kind: str = Field(description="charge, reversal or correction")
    revision: int
    adjusts: UUID | None = None
    org_id: str
    team_id: str | None = None
    user_id: str
    event_source: str
    event_id: str
    event_type: str
    occurred_at: datetime = Field(sa_type=_UTC)
    recorded_at: datetime = Field(sa_type=_UTC)
    run_id: str | None = None
    agent_id: str | None = None
    workflow_id: str | None = None
    node: str | None = None
    tool: str | None = None
    provider: str | None = None
    model: str | None = None
    tier: str | None = None
    quantity: int = Field(sa_type=BigInteger)
    input_tokens: int = Field(sa_type=BigInteger)
    cached_input_tokens: int = Field(sa_type=BigInteger)
    output_tokens: int = Field(sa_type=BigInteger)
    key_source: str = Field(description="byok, platform or none")
    byok_scope: str | None = None
    credential_id: str | None = None
    reason: str
    flags: list[str] = Field(sa_type=ARRAY(Text))
    list_mc: int = Field(sa_type=BigInteger, description="Microcredits: what it lists at.")
    charged_mc: int = Field(sa_type=BigInteger, description="Microcredits: what it costs.")
    saved_mc: int = Field(sa_type=BigInteger, description="Microcredits: list minus charged.")
    rate_card: str
    registry_seq: int = Field(sa_type=BigInteger)
    priced_model: str | None = Field(None, description="Under which name the rate card lists the model.")
    usage: dict[str, int] | None = Field(None, sa_type=JSONB, description="How many of each unit; by event of v2.")
    conditions: dict[str, str] | None = Field(None, sa_type=JSONB, description="What the provider says it served.")


class EntryView(EntryColumns, table=True):
    """One row of the view that dashboards read."""

    __tablename__ = "entries"
    __table_args__ = {"schema": "ledger"}


class EntryPosition(SQLModel, table=True):
    """The place of one entry in the feed."""

    __tablename__ = "entry_position"
    __table_args__ = {"schema": "ledger"}

    position: int = Field(primary_key=True, sa_type=BigInteger)
    entry_id: UUID


class EntryBatch(SQLModel, table=True):
    """Entries that are committed and wait for their places."""

    __tablename__ = "entry_batch"
    __table_args__ = {"schema": "ledger"}

    batch: int = Field(primary_key=True, sa_type=BigInteger)
    entry_ids: list[UUID] = Field(sa_type=ARRAY(Uuid))


class EntryRow(EntryColumns, table=True):
    """One row of the table below the view, with what a receipt needs besides."""

    __tablename__ = "entry"
    __table_args__ = {"schema": "ledger"}

    # Here NULL also where it is the name that was reported; the view says it always.
    priced_model: str | None = None
    evidence: dict[str, str] | None = Field(None, sa_type=JSONB)
    parent_run_id: str | None = None
    succeeded: bool
    claim_source: str | None = None
    claim_credential_id: str | None = None
    caused_by_seq: int | None = Field(None, sa_type=BigInteger)
    source_partition_id: int | None = None
    source_offset: int | None = Field(None, sa_type=BigInteger)
    source_index: int | None = None


class SourcePartition(SQLModel, table=True):
    """One Kafka partition of one cluster, and how far its records are booked."""

    __tablename__ = "source_partition"
    __table_args__ = {"schema": "ledger"}

    source_partition_id: int = Field(primary_key=True)
    cluster_id: str
    topic: str
    partition: int


class DeadLetterRow(SQLModel, table=True):
    """A refused event, without its payload: that is for operators, not for those whom this service answers."""

    __tablename__ = "dead_letter"
    __table_args__ = {"schema": "ledger"}

    dead_letter_id: int = Field(primary_key=True, sa_type=BigInteger)
    source_partition_id: int
    source_offset: int = Field(sa_type=BigInteger)
    source_index: int
    reason: str
    detail: str
    failed_at: datetime = Field(sa_type=_UTC)
    org_id: str | None = None
    event_source: str | None = None
    event_id: str | None = None
    event_type: str | None = None


def table_of(model: type[SQLModel]) -> Table:
    """The SQLAlchemy table of a model."""
    return cast(Table, model.__table__)  # type: ignore[attr-defined]


VIEW = tuple(EntryColumns.model_fields)
"""The names of the view's columns in their order."""
