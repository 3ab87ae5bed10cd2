"""How a benchmark reaches the ledger's database as the owner of its tables, who alone may make other tables there."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit


def owner_dsn(service_dsn: str, folder: Path) -> str:
    """The owner's DSN, from a service's and the data directory of the stack."""
    passwords = json.loads((folder / "secrets" / "passwords.json").read_text())
    address = urlsplit(service_dsn)
    return f"postgresql://ledger_owner:{passwords['ledger_owner']}@{address.hostname}:{address.port}{address.path}"
