"""The settings of the ledger service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from services.books.settings import LedgerDatabase
from services.runtime.kafka_access import KafkaSettings
from services.runtime.settings import HttpSettings, Port, TokenSettings


class LedgerSettings(HttpSettings, TokenSettings, KafkaSettings, LedgerDatabase):
    """All that the ledger service may be told."""

    ledger_port: Port = 8002
    ingest_rate_limit_per_second: Annotated[float, Field(gt=0, le=100_000)] = 500
    """How often one caller may hand in usage events over HTTP; each request may hold 1,000 of them."""
    ingest_rate_limit_burst: Annotated[int, Field(ge=1, le=1_000_000)] = 2_000
    ingest_dead_letters_per_hour: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """With more dead letters within an hour, an organization's events are refused at the door for a while."""
    export_seconds: Annotated[float, Field(gt=0, le=86_400)] = 900
    """How long one export may take; then it is cut, and its file is visibly incomplete."""
    platform_name: Annotated[str, StringConstraints(min_length=1, max_length=100)] = "BYOK"
    """Who sells: provider, publisher and issuer of invoices in exports and statements."""
