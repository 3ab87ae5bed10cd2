"""The settings of the key registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, Json, SecretStr

from services.runtime.kafka_access import KafkaSettings
from services.runtime.settings import HttpSettings, Port, Settings, TokenSettings


class RegistryDatabase(Settings):
    """The registry's database."""

    registry_dsn: SecretStr
    """As the role of the running service, which owns no table."""


class KekSettings(Settings):
    """Where the key-encryption keys are: one of the two."""

    kek_file: Path | None = None
    """JSON: ``{"active": "<kek id>", "keys": {"<kek id>": "<32 bytes in base64>"}}``."""
    keks: SecretStr | None = None
    """The same JSON itself, where it comes from the environment instead of a file."""


class ProviderSettings(Settings):
    """Where providers are asked about keys."""

    provider_urls: Annotated[Json[dict[str, str]], Field("{}")]
    """JSON: where to ask a provider whether it takes a key, ``{"openai": "https://…"}``; an empty URL: never."""
    provider_check_seconds: Annotated[float, Field(gt=0, le=30)] = 5
    """How long a provider may take to answer that."""


class RegistrySettings(HttpSettings, TokenSettings, KafkaSettings, RegistryDatabase, KekSettings, ProviderSettings):
    """All that the key registry may be told."""

    registry_port: Port = 8001
    ledger_dsn: SecretStr | None = None
    """The ledger's database, where its copy of the log is asked whether the registry's is whole; only to read."""
    rate_limit_per_second: Annotated[float, Field(gt=0, le=100_000)] = 50
    """How often one caller may ask the registry, but for leases; an admin of every organization may always."""
    rate_limit_burst: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """How much of it at once, after a pause."""
    lease_rate_limit_per_second: Annotated[float, Field(gt=0, le=100_000)] = 500
    lease_rate_limit_burst: Annotated[int, Field(ge=1, le=1_000_000)] = 2_000
    change_waits_max: Annotated[int, Field(ge=1, le=100_000)] = 250
    """How many may wait for changes at once, each on a connection; of one organization's tokens half as many."""
    rotation_undo_seconds: Annotated[int, Field(ge=0, le=30 * 86_400)] = 86_400
    """How long the key before a rotation can be brought back; then it is destroyed."""
    outbox_interval_seconds: Annotated[float, Field(gt=0, le=60)] = 0.05
    """How long the relay waits before it looks for new changes again."""
