# ruff: noqa: INP001 - a script, not part of a package
"""Keys and passwords for docker compose on one machine, made once: `make dev-secrets`. Never for production."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from services.local.data_dir import DataDir
from services.local.dev_tokens import create_signing_key
from services.runtime.private_file import write_private

IMAGE_UID = 10_001
"""The user of deploy/Dockerfile."""
PASSWORDS = (
    "POSTGRES_PASSWORD",
    "LEDGER_OWNER_PASSWORD",
    "LEDGER_SERVICE_PASSWORD",
    "LEDGER_REPLAY_PASSWORD",
    "LEDGER_DASHBOARD_PASSWORD",
    "REGISTRY_OWNER_PASSWORD",
    "REGISTRY_SERVICE_PASSWORD",
    "GRAFANA_PASSWORD",
)


def make_dev_secrets(root: Path) -> None:
    """Make what is missing under deploy/dev-secrets of the repository at ``root``, and say how to go on."""
    folder = root / "deploy" / "dev-secrets"
    data = DataDir(folder)
    data.create()
    files = [data.kek_file(), *create_signing_key(data.secrets)]
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        # The services do not run as root, and read what only its owner may read.
        uid = gid = IMAGE_UID
        for file in files:
            os.chown(file, uid, gid)
    environment = folder / "env"
    _complete(environment, {"BYOK_UID": str(uid), "BYOK_GID": str(gid)} | dict.fromkeys(PASSWORDS, ""))
    print(f"{folder} is ready; now: {_compose(root, environment)} up --build")  # noqa: T201


def _complete(environment: Path, wanted: dict[str, str]) -> None:
    """Add what the file lacks, a password where no value is given: what it has is what the volumes were made with."""
    before = environment.read_text() if environment.exists() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    has = {line.partition("=")[0] for line in before.splitlines()}
    added = {name: value or secrets.token_hex(16) for name, value in wanted.items() if name not in has}
    if added:
        write_private(environment, before + "".join(f"{name}={value}\n" for name, value in added.items()))


def _compose(root: Path, environment: Path) -> str:
    """How Compose is started: by itself it reads ``.env``, which becomes a link unless there is one already."""
    default = root / ".env"
    relative = environment.relative_to(root)
    if not (default.exists() or default.is_symlink()):
        default.symlink_to(relative)
    return "docker compose" if default.resolve() == environment.resolve() else f"docker compose --env-file {relative}"


if __name__ == "__main__":
    make_dev_secrets(Path(__file__).parents[1])
