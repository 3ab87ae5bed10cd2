"""The registry's tables, column by column; the migrations make them, and hold the constraints and indexes as well.

A test compares the two. ``registry.relay_cursor`` is the relay's alone, and has no model.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Identity, LargeBinary, SmallInteger, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

_SCHEMA = {"schema": "registry"}
_TIME: Any = DateTime(timezone=True)


def _default(value: str) -> dict[str, Any]:
    """What the database fills in by itself."""
    return {"server_default": text(value)}


class LogEntry(SQLModel, table=True):
    """One registry change in the bytes that are sent; never altered."""

    __tablename__ = "log"
    __table_args__ = _SCHEMA

    seq: int = Field(primary_key=True, sa_type=BigInteger)
    key: str
    payload: bytes = Field(sa_type=LargeBinary)
    changed_at: datetime = Field(sa_type=_TIME)


class LogHead(SQLModel, table=True):
    """The end of the log, and the lock that puts changes in order."""

    __tablename__ = "log_head"
    __table_args__ = _SCHEMA

    only_row: bool = Field(primary_key=True, sa_column_kwargs=_default("true"))
    last_seq: int = Field(sa_type=BigInteger)
    last_at: datetime = Field(sa_type=_TIME)


class Slot(SQLModel, table=True):
    """One place for a key: of a scope and a provider."""

    __tablename__ = "slot"
    __table_args__ = _SCHEMA

    slot_id: int = Field(default=0, sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    org_id: str
    scope_type: str
    scope_id: str
    provider: str


class CredentialRow(SQLModel, table=True):
    """What is known of a key without its secret."""

    __tablename__ = "credential"
    __table_args__ = _SCHEMA

    credential_id: str = Field(primary_key=True)
    created_seq: int = Field(sa_type=BigInteger)
    slot_id: int = Field(sa_type=BigInteger)
    org_id: str
    scope_type: str
    scope_id: str
    provider: str
    label: str | None = None
    hint: str
    fingerprint: str = Field(repr=False)
    created_by: str
    created_at: datetime = Field(sa_type=_TIME)
    revision: int = Field(default=1, sa_column_kwargs=_default("1"))
    deleted_at: datetime | None = Field(default=None, sa_type=_TIME)
    last_used_at: datetime | None = Field(default=None, sa_type=_TIME)


class CredentialInterval(SQLModel, table=True):
    """When a key was active: half-open, an ``active_to`` of None is open."""

    __tablename__ = "credential_interval"
    __table_args__ = _SCHEMA

    interval_id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    credential_id: str
    slot_id: int = Field(sa_type=BigInteger)
    active_from: datetime = Field(sa_type=_TIME)
    active_to: datetime | None = Field(default=None, sa_type=_TIME)


class SecretVersion(SQLModel, table=True):
    """One encrypted secret; all of its bytes are None once it is destroyed.

    ``restorable_until`` is None for the current one; ``restored_at`` is when it was brought back. What the provider
    said of the key, and how runners fared with it, is about this version alone.
    """

    __tablename__ = "secret_version"
    __table_args__ = _SCHEMA

    credential_id: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    format_version: int = Field(sa_type=SmallInteger)
    kek_id: str
    wrapped_key: bytes | None = Field(sa_type=LargeBinary, repr=False)
    wrap_nonce: bytes | None = Field(sa_type=LargeBinary, repr=False)
    ciphertext: bytes | None = Field(sa_type=LargeBinary, repr=False)
    nonce: bytes | None = Field(sa_type=LargeBinary, repr=False)
    created_at: datetime = Field(sa_type=_TIME)
    destroyed_at: datetime | None = Field(default=None, sa_type=_TIME)
    restorable_until: datetime | None = Field(default=None, sa_type=_TIME)
    check_result: str | None = None
    check_reason: str | None = None
    checked_at: datetime | None = Field(default=None, sa_type=_TIME)
    restored_at: datetime | None = Field(default=None, sa_type=_TIME)
    health_outcome: str | None = None
    health_at: datetime | None = Field(default=None, sa_type=_TIME)
    health_detail: str | None = None


class PlanHistoryRow(SQLModel, table=True):
    """All plans of one organization; each period is an object with ``plan``, ``from`` and ``to``, as on the wire."""

    __tablename__ = "plan_history"
    __table_args__ = _SCHEMA

    org_id: str = Field(primary_key=True)
    periods: list[dict[str, Any]] = Field(sa_type=JSONB)
    seq: int = Field(sa_type=BigInteger)


class IdempotentAnswer(SQLModel, table=True):
    """What a request with an Idempotency-Key was answered."""

    __tablename__ = "idempotent_answer"
    __table_args__ = _SCHEMA

    request_id: str = Field(primary_key=True)
    fingerprint: str
    answer: dict[str, Any] = Field(sa_type=JSONB)
    answered_at: datetime = Field(sa_type=_TIME)


class RateCardRow(SQLModel, table=True):
    """A published rate card; never altered."""

    __tablename__ = "rate_card"
    __table_args__ = _SCHEMA

    card: str = Field(primary_key=True)
    effective_from: datetime = Field(sa_type=_TIME)
    body: dict[str, Any] = Field(sa_type=JSONB)
    seq: int = Field(sa_type=BigInteger)


class ModelAliasesRow(SQLModel, table=True):
    """Every other name of one provider's models, to the name that cards list; one is only ever added."""

    __tablename__ = "model_aliases"
    __table_args__ = _SCHEMA

    provider: str = Field(primary_key=True)
    aliases: dict[str, str] = Field(sa_type=JSONB)
    seq: int = Field(sa_type=BigInteger)


class EndedSessions(SQLModel, table=True):
    """Before when the sessions of one person or service have ended."""

    __tablename__ = "ended_sessions"
    __table_args__ = _SCHEMA

    org_id: str = Field(primary_key=True)
    subject: str = Field(primary_key=True)
    ended_before: datetime = Field(sa_type=_TIME)


class AuditRow(SQLModel, table=True):
    """One row of the audit log; the database numbers, dates and chains it, and it is never altered."""

    __tablename__ = "audit"
    __table_args__ = _SCHEMA

    seq: int = Field(primary_key=True, sa_type=BigInteger)
    occurred_at: datetime = Field(sa_type=_TIME)
    actor: str
    actor_org: str
    client_address: str | None
    request_id: str | None
    reason: str | None
    action: str
    outcome: str
    code: str | None
    omitted: int = Field(sa_column_kwargs=_default("0"))
    org_id: str | None
    credential_id: str | None
    scope_type: str | None
    scope_id: str | None
    provider: str | None
    hint: str | None
    detail: str | None
    prev_hash: bytes = Field(sa_type=LargeBinary, repr=False)
    hash: bytes = Field(sa_type=LargeBinary, repr=False)


class AuditHead(SQLModel, table=True):
    """The end of the audit log, which the database alone moves."""

    __tablename__ = "audit_head"
    __table_args__ = _SCHEMA

    only_row: bool = Field(primary_key=True, sa_column_kwargs=_default("true"))
    last_seq: int = Field(sa_type=BigInteger)
    last_at: datetime = Field(sa_type=_TIME)
    last_hash: bytes = Field(sa_type=LargeBinary)
