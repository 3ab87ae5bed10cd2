"""The settings of the processes: environment variables with the prefix ``BYOK_``, listed in the README.

What several of them need stands here; the class of each process is in a ``settings.py`` of its own. A field without a
default is one that the process cannot do without.
"""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=1, le=65_535)]


class Environment(StrEnum):
    """Where this runs. In production the development signing key is refused."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class SettingsError(Exception):
    """A setting is missing or cannot be used; the message says which and what to do."""


def not_set(name: str) -> SettingsError:
    """What is raised where the setting ``name`` is missing; it names the variable."""
    return SettingsError(f"BYOK_{name.upper()} is not set; README.md, 'Settings', says what it is")


def unusable(variable: str, what: object, error: Exception) -> SettingsError:
    """What is raised where what a variable names cannot be read; it says why, and nothing of what stands in it."""
    why = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
    return SettingsError(f"{variable}: {what} cannot be used: {why}")


class Settings(BaseSettings):
    """What every process may be told."""

    model_config = SettingsConfigDict(env_prefix="BYOK_", extra="ignore", frozen=True)

    log_level: str = "INFO"

    @classmethod
    def load(cls) -> Self:
        """The settings from the environment. Raises SettingsError that names the variable, never its value."""
        try:
            return cls()
        except ValidationError as error:
            errors = error.errors(include_input=False, include_url=False, include_context=False)
            # What is wrong is told before what is missing.
            first = min(errors, key=lambda each: each["type"] == "missing")
            name = str(first["loc"][0])
            if first["type"] == "missing":
                raise not_set(name) from None
            raise SettingsError(f"BYOK_{name.upper()}: {first['msg']}") from None


class HttpSettings(Settings):
    """How a service is reached over HTTP, and what it grants to whoever asks."""

    host: str = "127.0.0.1"
    """Where the HTTP servers of the services listen."""
    trusted_proxies: str | None = None
    """Addresses or networks, separated by commas, whose X-Forwarded-For and -Proto the services believe."""
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

    otlp_traces_url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    """Where an OpenTelemetry collector takes spans (OTLP over HTTP); None: none are recorded."""
    otlp_traces_share: Annotated[float, Field(ge=0, le=1)] = 1
    """Which share of the traces that begin here are recorded; others are as whoever began them decided."""

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


class TokenSettings(Settings):
    """Which bearer tokens are taken."""

    env: Environment = Environment.PRODUCTION
    jwt_issuer: str = "byok"
    jwt_audience: str = "byok"
    jwt_leeway_seconds: Annotated[int, Field(ge=0, le=300)] = 30
    jwt_jwks_file: Path | None = None
    jwt_jwks_url: str | None = None
    jwt_claims_file: Path | None = None
    """How an identity provider's claims become ours (services/runtime/claims.py); None: they are ours."""
    jwt_signing_key_file: Path | None = None
    """A PEM private key (Ed25519) with which `byok token` signs; for development only."""
