"""The settings of the console."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from services.runtime.settings import HttpSettings, Port, TokenSettings


class ConsoleSettings(HttpSettings, TokenSettings):
    """All that the console may be told. It has no database and signs nothing."""

    console_port: Port = 8004
    registry_url: str = "http://127.0.0.1:8001"
    ledger_url: str = "http://127.0.0.1:8002"
    console_session_key_file: Path
    """Keys that seal sessions (Fernet), one a line: the first seals, each of them opens."""
    console_session_hours: Annotated[int, Field(ge=1, le=24 * 30)] = 12
    """After so long a session ends, however much it is used."""
    console_cookie_secure: bool = False
    """The console's cookies are Secure always, and not only where a request came over TLS."""
    console_session_check_seconds: Annotated[float, Field(ge=0, le=60)] = 10
    """How often the key registry is asked at most whether somebody has signed out everywhere."""
    console_personas_file: Path | None = None
    """People to sign in as with one click; for development only, and not beside an identity provider."""
    console_public_url: Annotated[str, Field(pattern=r"^https?://[^/?#]+$")] | None = None
    """Where people find the console, without a path; None: where the request came, as a trusted proxy says."""
    console_oidc_issuer: str | None = None
    """The identity provider that people sign in with; None: they paste a token."""
    console_oidc_client_id: str | None = None
    console_oidc_client_secret_file: Path | None = None
    """None: the console is a public client, which PKCE protects."""
    console_oidc_scopes: str = "openid profile"
    """What is asked for; offline_access, or what the provider calls it, for sessions that outlive a token."""
    console_oidc_token: Literal["access_token", "id_token"] = "access_token"  # noqa: S105 - a kind, and no token
    """Which of the provider's tokens the services are asked with: that whose audience is BYOK_JWT_AUDIENCE."""
