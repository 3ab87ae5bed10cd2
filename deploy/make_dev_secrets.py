# ruff: noqa: INP001 - a script, not part of a package
"""Keys and passwords for docker compose on one machine, made once: `make dev-secrets`. Never for production."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from services.cli.data_dir import DataDir
from services.cli.dev_tokens import create_signing_key
from services.runtime.private_file import write_private

IMAGE_UID = 10_001
"""The user of deploy/Dockerfile."""
_PASSWORDS = (
    "POSTGRES_PASSWORD",
    "LEDGER_OWNER_PASSWORD",
    "LEDGER_SERVICE_PASSWORD",
    "LEDGER_REPLAY_PASSWORD",
    "REGISTRY_OWNER_PASSWORD",
    "REGISTRY_SERVICE_PASSWORD",
    "GRAFANA_PASSWORD",
)


def main() -> None:
    """Make what is missing under deploy/dev-secrets, and say how to go on."""
    folder = Path(__file__).parent / "dev-secrets"
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
    if not environment.exists():
        values = {"BYOK_UID": str(uid), "BYOK_GID": str(gid)} | {name: secrets.token_hex(16) for name in _PASSWORDS}
        write_private(environment, "".join(f"{name}={value}\n" for name, value in values.items()))
    print(f"{folder} is ready; now: docker compose --env-file deploy/dev-secrets/env up --build")  # noqa: T201


if __name__ == "__main__":
    main()
