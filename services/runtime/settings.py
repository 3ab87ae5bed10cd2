"""Every setting of every process: environment variables with the prefix ``BYOK_``, listed in the README."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, Json, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=1, le=65_535)]


class Environment(StrEnum):
    """Where this runs. In production the development signing key is refused."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class SettingsError(Exception):
    """A setting is missing or cannot be used; the message says which and what to do."""


class Settings(BaseSettings):
    """The settings of all processes; each process insists on what it needs with ``required``."""

    model_config = SettingsConfigDict(env_prefix="BYOK_", extra="ignore", frozen=True)

    env: Environment = Environment.PRODUCTION
    log_level: str = "INFO"

    kafka_bootstrap: str = "127.0.0.1:9092"
    """``host:port`` of one or more brokers, separated by commas."""

    ledger_dsn: SecretStr | None = None
    """The ledger database as the role of the running service, which owns no table."""
    ledger_admin_dsn: SecretStr | None = None
    """The ledger database as the owner of its tables: only `byok db upgrade` uses it."""
    replay_dsn: SecretStr | None = None
    """Where `byok verify --replay` makes its shadow: a role that may create databases, or an empty database."""
    registry_dsn: SecretStr | None = None
    registry_admin_dsn: SecretStr | None = None

    host: str = "127.0.0.1"
    """Where the HTTP servers of the services listen."""
    registry_port: Port = 8001
    ledger_port: Port = 8002
    metering_port: Port = 8003
    registry_url: str = "http://127.0.0.1:8001"
    """Where the other programs find the key registry."""
    ledger_url: str = "http://127.0.0.1:8002"

    trusted_proxies: str | None = None
    """Addresses or networks, separated by commas, whose X-Forwarded-For and -Proto the services believe."""
    console_cookie_secure: bool = False
    """The console's cookie is Secure always, and not only where a request came over TLS."""
    rate_limit_per_second: Annotated[float, Field(gt=0, le=100_000)] = 50
    """How often one caller may ask the registry, but for leases; an admin of every organization may always."""
    rate_limit_burst: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """How much of it at once, after a pause."""
    lease_rate_limit_per_second: Annotated[float, Field(gt=0, le=100_000)] = 500
    lease_rate_limit_burst: Annotated[int, Field(ge=1, le=1_000_000)] = 2_000
    ingest_rate_limit_per_second: Annotated[float, Field(gt=0, le=100_000)] = 500
    """How often one caller may hand in usage events over HTTP; each request may hold 1,000 of them."""
    ingest_rate_limit_burst: Annotated[int, Field(ge=1, le=1_000_000)] = 2_000
    ingest_dead_letters_per_hour: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """With more dead letters within an hour, an organization's events are refused at the door for a while."""

    connections_max: Annotated[int, Field(ge=10, le=100_000)] = 500
    """How many connections each service keeps at once; beyond them a request is 503."""
    request_header_seconds: Annotated[float, Field(gt=0, le=600)] = 10
    """How long a client may take to send the headers of a request; then the connection is cut."""
    request_body_seconds: Annotated[float, Field(gt=0, le=3600)] = 30
    """How long the body of a request may take to arrive; then it is 408."""
    request_bodies_bytes_max: Annotated[int, Field(ge=1_000_000)] = 128 * 1024 * 1024
    """How much the bodies of all requests that are not answered yet may hold, one organization's half of it."""
    send_seconds: Annotated[float, Field(gt=0, le=3600)] = 30
    """How long a client may read nothing of what is sent to it; then the connection is cut."""
    export_seconds: Annotated[float, Field(gt=0, le=86_400)] = 900
    """How long one export may take; then it is cut, and its file is visibly incomplete."""

    kek_file: Path | None = None
    """JSON: ``{"active": "<kek id>", "keys": {"<kek id>": "<32 bytes in base64>"}}``."""

    keks: SecretStr | None = None
    """The same JSON itself, where it comes from the environment instead of a file."""

    provider_urls: Annotated[Json[dict[str, str]], Field("{}")]
    """JSON: where to ask a provider whether it takes a key, ``{"openai": "https://…"}``; an empty URL: never."""
    provider_check_seconds: Annotated[float, Field(gt=0, le=30)] = 5
    """How long a provider may take to answer that."""
    rotation_undo_seconds: Annotated[int, Field(ge=0, le=30 * 86_400)] = 86_400
    """How long the key before a rotation can be brought back; then it is destroyed."""

    jwt_issuer: str = "byok"
    jwt_audience: str = "byok"
    jwt_leeway_seconds: Annotated[int, Field(ge=0, le=300)] = 30
    jwt_jwks_file: Path | None = None
    jwt_jwks_url: str | None = None
    jwt_signing_key_file: Path | None = None
    """A PEM private key (Ed25519) with which `byok token` signs; for development only."""

    outbox_interval_seconds: Annotated[float, Field(gt=0, le=60)] = 0.05
    """How long the relay waits before it looks for new changes again."""
    kafka_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 30
    """How long one send may take before it counts as failed and is tried again."""
    consumer_group: str = "byok-metering"
    metering_batch_records: Annotated[int, Field(ge=1, le=100_000)] = 500
    """How many records at most are taken at once; each may be 1 MB, so this bounds memory."""
    metering_batch_events: Annotated[int, Field(ge=1, le=100_000)] = 5_000
    """How many events at most go into one transaction (a single record may hold up to 1,000)."""
    metering_linger_seconds: Annotated[float, Field(gt=0, le=5)] = 0.05
    metering_pause_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """A worker pauses when more than this share of its events became dead letters; 1: never."""
    metering_pause_window_seconds: Annotated[int, Field(ge=1, le=86_400)] = 300
    """Over how long the share is taken."""
    metering_pause_min_events: Annotated[int, Field(ge=1)] = 100_000
    """Among fewer events within the window, any share is fine."""
    metering_pause_spares_largest: bool = True
    """Whether the rest must be as bad without its largest organization and source; false where one company has all."""

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str | None) -> str | None:
        # A name, or a slip of the pen, would silently trust nobody.
        for network in () if value is None else value.split(","):
            try:
                ipaddress.ip_network(network.strip())
            except ValueError:
                raise ValueError("must be addresses or networks, separated by commas, such as 10.0.0.0/8") from None
        return value

    def required(self, name: str) -> str:
        """The setting ``name`` as text; raises SettingsError that names its variable where it is not set."""
        value = getattr(self, name)
        if value is None:
            raise SettingsError(f"BYOK_{name.upper()} is not set; README.md, 'Settings', says what it is")
        return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def load_settings() -> Settings:
    """The settings from the environment. Raises SettingsError that names the variable, never its value."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise SettingsError(f"BYOK_{str(first['loc'][0]).upper()}: {first['msg']}") from None
