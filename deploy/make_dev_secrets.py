# ruff: noqa: INP001 - a script, not part of a package
"""Keys and passwords for docker compose on one machine, made once: `make dev-secrets`. Never for production."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from services.local.data_dir import DataDir
from services.local.dev_tokens import create_signing_key
from services.local.embedded.databases import LOGIN_ROLES
from services.runtime.private_file import write_private

IMAGE_UID = 10_001
"""The user of deploy/Dockerfile."""
MONITOR = "monitoring"
"""As whom postgres-exporter looks at the server."""
ACCOUNTS = ("postgres", *LOGIN_ROLES, MONITOR, "grafana")
"""Whose passwords are made: roles of PostgreSQL, and the one user of Grafana."""
PGPASS = {
    "migrate": ("ledger_owner", "registry_owner"),
    "registry": ("registry_service", "ledger_registry"),
    "ledger": ("ledger_service",),
    "verify": ("ledger_service", "ledger_replay"),
}
"""Of which roles a container knows the passwords."""


def make_dev_secrets(root: Path) -> None:
    """Make what is missing under deploy/dev-secrets of the repository at ``root``, and say how to go on."""
    folder = root / "deploy" / "dev-secrets"
    data = DataDir(folder)
    data.create()
    files = [data.kek_file(), data.session_key_file(), *create_signing_key(data.secrets)]
    uid, gid = (IMAGE_UID, IMAGE_UID) if os.getuid() == 0 else (os.getuid(), os.getgid())
    environment = folder / "env"
    where = {"BYOK_UID": str(uid), "BYOK_GID": str(gid), "BYOK_SECRETS_DIR": f"./{data.secrets.relative_to(root)}"}
    told = _completed(environment, where | {_variable(account): "" for account in ACCOUNTS})
    files += _password_files(data.secrets / "passwords", {account: told[_variable(account)] for account in ACCOUNTS})
    if os.getuid() == 0:
        # The services do not run as root, and read what only its owner may read.
        for file in files:
            os.chown(file, uid, gid)
    print(f"{folder} is ready; now: {_compose(root, environment)} up --build")  # noqa: T201


def _variable(account: str) -> str:
    return f"{account.upper()}_PASSWORD"


def _completed(environment: Path, wanted: dict[str, str]) -> dict[str, str]:
    """Add what the file lacks, a password where no value is given: what it has is what the volumes were made with."""
    before = environment.read_text() if environment.exists() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    has = dict(line.split("=", 1) for line in before.splitlines() if "=" in line)
    added = {name: value or secrets.token_hex(16) for name, value in wanted.items() if name not in has}
    if added:
        write_private(environment, before + "".join(f"{name}={value}\n" for name, value in added.items()))
    return has | added


def _password_files(folder: Path, passwords: dict[str, str]) -> Iterator[Path]:
    """A file for each, and what libpq reads, PGPASSFILE, for each container that comes to PostgreSQL."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for account, password in passwords.items():
        yield _written(folder / account, password)
    for container, roles in PGPASS.items():
        lines = (f"postgres:5432:*:{role}:{passwords[role]}\n" for role in roles)
        yield _written(folder / f"pgpass-{container}", "".join(lines))


def _written(file: Path, text: str) -> Path:
    write_private(file, text)
    return file


def _compose(root: Path, environment: Path) -> str:
    """How Compose is started: by itself it reads ``.env``, which becomes a link unless there is one already."""
    default = root / ".env"
    relative = environment.relative_to(root)
    if not (default.exists() or default.is_symlink()):
        default.symlink_to(relative)
    return "docker compose" if default.resolve() == environment.resolve() else f"docker compose --env-file {relative}"


if __name__ == "__main__":
    make_dev_secrets(Path(__file__).parents[1])
