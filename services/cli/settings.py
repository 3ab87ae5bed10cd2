"""The settings of the commands: each insists on what it needs."""

from __future__ import annotations

from pydantic import SecretStr

from services.books.settings import LedgerDatabase
from services.key_registry.settings import KekSettings, RegistryDatabase
from services.metering.settings import BatchSettings
from services.runtime.kafka_access import KafkaSettings
from services.runtime.settings import Settings, TokenSettings


class LetterSettings(LedgerDatabase, KafkaSettings):
    """Of `byok dead-letters`."""


class ReplaySettings(LedgerDatabase, KafkaSettings, BatchSettings):
    """Of `byok verify --replay`."""

    replay_dsn: SecretStr
    """Where it makes its shadow: a role that may create databases, or an empty database."""


class KeyringSettings(RegistryDatabase, KekSettings):
    """Of `byok kek` where it looks at the registry, too."""


class CardSettings(Settings):
    """Of `byok rate-card check`: without a registry, the cards that ship with us are what is published."""

    registry_dsn: SecretStr | None = None


class PublishingSettings(LedgerDatabase, RegistryDatabase):
    """Of `byok rate-card publish`."""


class RebuildSettings(LedgerDatabase, RegistryDatabase, KafkaSettings):
    """Of `byok registry rebuild`."""


class OwnerSettings(Settings):
    """Of `byok db upgrade`: the databases as the owners of their tables; one of them at least."""

    ledger_admin_dsn: SecretStr | None = None
    registry_admin_dsn: SecretStr | None = None


class PublishSettings(KafkaSettings):
    """Of `byok usage publish`: without a ledger it cannot see what becomes of the events."""

    ledger_dsn: SecretStr | None = None


class ApiSettings(TokenSettings):
    """Of the commands that ask a service."""

    registry_url: str = "http://127.0.0.1:8001"
    ledger_url: str = "http://127.0.0.1:8002"
    token: SecretStr | None = None
    """Whom they ask as; without it, they sign a token with the development key."""
