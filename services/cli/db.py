"""`byok db upgrade`: both databases to the newest schema, as the owners of their tables."""

from __future__ import annotations

import typer

from services.cli.terminal import explained


def upgrade() -> None:
    """Bring the databases named by BYOK_LEDGER_ADMIN_DSN and BYOK_REGISTRY_ADMIN_DSN to the newest schema.

    Exit status: 2 wrong settings; 3 a database does not answer.
    """
    with explained("db upgrade"):
        # Imported here, so that `byok --help` answers at once.
        from services.books.migrations import upgrade as upgrade_ledger
        from services.cli.settings import OwnerSettings
        from services.key_registry.migrations import upgrade as upgrade_registry
        from services.runtime.logs import configure_logs, log_crashes
        from services.runtime.settings import not_set

        configure_logs("WARNING", "db-upgrade")
        log_crashes()
        settings = OwnerSettings.load()
        ledger, registry = settings.ledger_admin_dsn, settings.registry_admin_dsn
        if ledger is None and registry is None:
            raise not_set("ledger_admin_dsn")
        for name, dsn, run in (("ledger", ledger, upgrade_ledger), ("registry", registry, upgrade_registry)):
            if dsn is not None:
                run(dsn.get_secret_value())
                typer.echo(f"{name}: at the newest schema", err=True)
