"""Files that hold secrets: for us alone, and whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from services.runtime.logs import logger
from services.runtime.settings import SettingsError, unusable

_log = logger(__name__)


def write_private(path: Path, text: str, owner: tuple[int, int] | None = None) -> None:
    """Write a file that only we can read, whole or not at all, even when the machine fails meanwhile.

    ``owner`` is who can read it instead, as user id and group id; for root only.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_secret(variable: str, file: Path) -> str:
    """The one secret in the file that a variable names. Raises SettingsError, which says nothing of it."""
    try:
        secret = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise unusable(variable, file, error) from None
    if not secret:
        raise SettingsError(f"{variable}: {file} is empty")
    return secret


def warn_of_readers(path: Path, what: str) -> None:
    """Log that others may read ``what`` a file holds. Says nothing of a file that is not there."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        _log.warning(f"others may read {what}; run chmod 600", file=str(path))
