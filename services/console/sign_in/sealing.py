"""What only the console can make or read: sealed for one purpose, and opened for no other (Fernet: AES and HMAC)."""

from __future__ import annotations

from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from services.runtime.private_file import warn_of_readers
from services.runtime.settings import SettingsError

_KEYS_MAX = 10
_END = b"\0"


class Seals:
    """The keys of one console, however many processes it has."""

    def __init__(self, file: Path) -> None:
        """``file`` has a key a line; the first seals. Raises SettingsError where it has none that can be used."""
        warn_of_readers(file, "the keys of sessions")
        try:
            lines = file.read_text("ascii").split()
            self._keys = MultiFernet([Fernet(line) for line in lines[:_KEYS_MAX]])
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"BYOK_CONSOLE_SESSION_KEY_FILE cannot be used ({type(error).__name__}); it has a key a line,"
                " each 32 random bytes in URL-safe base64"
            ) from None

    def seal(self, purpose: str, content: bytes) -> str:
        """The content as text that says nothing of it."""
        return self._keys.encrypt(purpose.encode() + _END + content).decode()

    def open(self, purpose: str, sealed: str, *, seconds: int | None = None) -> bytes | None:
        """The content; None where it was sealed by nobody of ours, for something else, or longer than that ago."""
        try:
            found, _, content = self._keys.decrypt(sealed.encode(), ttl=seconds).partition(_END)
        except InvalidToken:
            return None
        return content if found == purpose.encode() else None
