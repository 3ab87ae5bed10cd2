"""People to sign in as with one click, for development: a file names them and has a token for each.

`byok up` writes it. The console signs nothing, and in production it does not start with such a file.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError

from services.console.settings import ConsoleSettings
from services.runtime.settings import Environment, SettingsError


class Persona(BaseModel):
    """Somebody to be."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(min_length=1, max_length=100)
    about: str = Field(max_length=300)
    """What this one may do, in a few words."""
    token: SecretStr


_FILE = TypeAdapter(tuple[Persona, ...])


class Personas:
    """Those in the file of the settings, read when somebody asks: a stack that starts anew writes it anew."""

    def __init__(self, settings: ConsoleSettings) -> None:
        """Raises SettingsError where the file is named in production."""
        self._file: Path | None = settings.console_personas_file
        if settings.console_oidc_issuer is not None:
            # Who is who, the identity provider says, and nobody else.
            self._file = None
        if self._file is not None and settings.env is Environment.PRODUCTION:
            raise SettingsError(
                "BYOK_CONSOLE_PERSONAS_FILE is for development; unset it, or set BYOK_ENV to development"
            )

    def everybody(self) -> tuple[Persona, ...]:
        """All of them; none where there is no file that can be read."""
        if self._file is None:
            return ()
        try:
            return _FILE.validate_json(self._file.read_bytes())
        except (OSError, ValidationError):
            return ()

    def named(self, name: str) -> Persona | None:
        """The one of this name."""
        return next((persona for persona in self.everybody() if persona.name == name), None)
