"""Where the services are, and the bounds of everything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from byok_sdk.errors import SettingsError

Durability = Literal["fsync", "process"]
"""``fsync``: on the disk before ``record`` returns, so that it outlives the machine's power. ``process``: with the
kernel, so that it outlives the process, but not the machine."""

WhenFull = Literal["block", "raise"]
"""What ``record`` does where the spool is full. It drops nothing."""

_PREFIX = "BYOK_"


@dataclass(frozen=True)
class Settings:
    """All that a meter is told. Times are in seconds."""

    registry_url: str
    ledger_url: str
    spool_dir: Path
    token: str = field(default="", repr=False)
    """A bearer token with the scopes ``credentials:lease`` and ``usage:write``, or"""
    token_file: Path | None = None
    """the file that holds it. It is read for each request, so that a new token is taken up."""
    source: str = "byok-sdk"
    """The ``source`` of every event: with organization and id its identity, so it stays as it is for ever."""
    durability: Durability = "fsync"
    when_full: WhenFull = "block"
    block_seconds: float = 30.0
    """How long ``record`` waits for room before it raises all the same."""
    spool_bytes_max: int = 256 * 1024 * 1024
    """Of the events that one process has waiting or set aside."""
    spool_events_max: int = 500_000
    linger_seconds: float = 0.05
    """How long the sender waits for more before it sends the first."""
    timeout_seconds: float = 10.0
    """For one request to a service."""
    exit_seconds: float = 5.0
    """How long the end of the process waits for what is not sent yet. The rest stays on disk, and is sent later."""
    adopt_seconds: float = 10.0
    """How often the sender looks for what dead processes left."""
    resend_seconds: float = 3600.0
    """After which what was refused for want of a price, or of a right, is sent again as it is."""

    def __post_init__(self) -> None:
        """Refuse what cannot work now, and not at the first event."""
        object.__setattr__(self, "spool_dir", Path(self.spool_dir))
        for name in ("registry_url", "ledger_url"):
            if not getattr(self, name).startswith(("http://", "https://")):
                raise SettingsError(f"{name} must begin with http:// or https://")
        if bool(self.token) == (self.token_file is not None):
            raise SettingsError("set either token or token_file")
        self.headers()
        for name, allowed in (("durability", ("fsync", "process")), ("when_full", ("block", "raise"))):
            if getattr(self, name) not in allowed:
                raise SettingsError(f"{name} must be one of {', '.join(allowed)}")
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int | float) and value < 0:
                raise SettingsError(f"{each.name} must not be negative")

    def headers(self) -> dict[str, str]:
        """Of every request. Raises SettingsError where there is no token now."""
        token = self.token
        if self.token_file is not None:
            try:
                token = self.token_file.read_text(encoding="utf-8").strip()
            except (OSError, ValueError):
                raise SettingsError(f"token_file {self.token_file} cannot be read") from None
        if not token or not token.isascii() or not token.isprintable():
            raise SettingsError("token must be a bearer token")
        return {"Authorization": f"Bearer {token}", "User-Agent": "byok-sdk"}

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """From ``BYOK_REGISTRY_URL`` and so on: the names of the fields. What is ``given`` goes first."""
        found = dict(os.environ if environment is None else environment)
        values = {
            each.name: found[_PREFIX + each.name.upper()]
            for each in fields(cls)
            if found.get(_PREFIX + each.name.upper())
        }
        told: dict[str, Any] = {name: _read(name, text) for name, text in values.items()} | given
        missing = [name for name in ("registry_url", "ledger_url", "spool_dir") if name not in told]
        if missing:
            raise SettingsError(f"set {', '.join(_PREFIX + name.upper() for name in missing)}")
        return cls(**told)


_PATHS = ("spool_dir", "token_file")
_INTEGERS = ("spool_bytes_max", "spool_events_max")


def _read(name: str, text: str) -> Any:
    try:
        if name in _INTEGERS:
            return int(text)
        if name in _PATHS:
            return Path(text)
        return float(text) if name.endswith("_seconds") else text
    except ValueError:
        raise SettingsError(f"{_PREFIX}{name.upper()} must be a number") from None
