"""The settings of the console."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    console_personas_file: Path | None = None
    """People to sign in as with one click; for development only."""
