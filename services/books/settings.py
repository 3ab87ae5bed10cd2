"""Where the books are."""

from __future__ import annotations

from pydantic import SecretStr

from services.runtime.settings import Settings


class LedgerDatabase(Settings):
    """The ledger's database."""

    ledger_dsn: SecretStr
    """As the role of the running service, which owns no table."""
