"""The settings of a metering worker."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from services.books.settings import LedgerDatabase
from services.runtime.kafka_access import KafkaSettings
from services.runtime.settings import HttpSettings, Port, Settings


class BatchSettings(Settings):
    """How much is booked at once."""

    metering_batch_events: Annotated[int, Field(ge=1, le=100_000)] = 5_000
    """How many events at most go into one transaction (a single record may hold up to 1,000)."""


class StreamSettings(KafkaSettings):
    """How a worker reads the topic."""

    consumer_group: str = "byok-metering"
    metering_batch_records: Annotated[int, Field(ge=1, le=100_000)] = 2_000
    """How many records at most are taken at once."""
    metering_linger_seconds: Annotated[float, Field(gt=0, le=5)] = 0.05


class MeteringSettings(HttpSettings, StreamSettings, BatchSettings, LedgerDatabase):
    """All that a worker may be told."""

    metering_port: Port = 8003
    metering_pause_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """A worker pauses when more than this share of its events became dead letters; 1: never."""
    metering_pause_window_seconds: Annotated[int, Field(ge=1, le=86_400)] = 300
    """Over how long the share is taken."""
    metering_pause_min_events: Annotated[int, Field(ge=1)] = 100_000
    """Among fewer events within the window, any share is fine."""
    metering_pause_spares_largest: bool = True
    """Whether the rest must be as bad without its largest organization and source; false where one company has all."""
    metering_merge_after_seconds: Annotated[int, Field(ge=0)] = 3_600
    """Covered ranges older than this are merged; younger ones stay one for each batch."""
    metering_dead_letter_days: Annotated[int, Field(ge=30)] = 365
    """How long dead letters are kept that no replay would book: booked meanwhile, or refused for ever."""
    metering_replayable_dead_letter_days: Annotated[int, Field(ge=30)] | None = None
    """How long those that a replay could still book; without it, for ever."""
