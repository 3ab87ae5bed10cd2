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
        from services.key_registry.migrations import upgrade as upgrade_registry
        from services.runtime.settings import load_settings

        settings = load_settings()
        if settings.ledger_admin_dsn is None and settings.registry_admin_dsn is None:
            settings.required("ledger_admin_dsn")
        for name, run in (("ledger", upgrade_ledger), ("registry", upgrade_registry)):
            if getattr(settings, f"{name}_admin_dsn") is not None:
                run(settings.required(f"{name}_admin_dsn"))
                typer.echo(f"{name}: at the newest schema", err=True)
