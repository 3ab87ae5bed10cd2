"""`byok kek status`: how many secrets are under which key-encryption key."""

from __future__ import annotations

import json as json_format
from pathlib import Path

import typer

from services.cli.operator import DataDir, Json, explained, results, stack_settings, table

_COUNTS = "SELECT kek_id, count(*) FROM registry.secret_version WHERE destroyed_at IS NULL GROUP BY kek_id ORDER BY 1"


def status(*, data_dir: DataDir = None, json: Json = False) -> None:
    """Count the secrets under each key-encryption key (KEK), and name the active.

    A KEK may be taken out of the keyring when nothing is counted under it.
    Destroyed secrets are left out: nothing opens them any more.

    Needs BYOK_REGISTRY_DSN and BYOK_KEK_FILE. Exit status: 0; 1 secrets are
    under a KEK that the keyring does not hold; 2 wrong options or settings;
    3 the database does not answer.
    """
    with explained("kek status"):
        from services.key_registry.encryption import load_keyring
        from services.runtime.database import connect

        settings = stack_settings(data_dir)
        with connect(settings.required("registry_dsn"), "kek", autocommit=True) as connection:
            counts = dict(connection.execute(_COUNTS).fetchall())
        keyring = load_keyring(Path(settings.required("kek_file")))
        active, held = keyring.active_id, set(keyring.ids)
    missing = sorted(counts.keys() - held)
    if json:
        typer.echo(json_format.dumps({"active": active, "secrets": counts, "missing": missing}))
    else:
        rows = table("key-encryption key", "secrets", "", right=("secrets",))
        for kek_id in sorted(held | counts.keys()):
            note = "active" if kek_id == active else "NOT in the keyring" if kek_id in missing else ""
            rows.add_row(kek_id, f"{counts.get(kek_id, 0):,}", note)
        results().print(rows)
    raise typer.Exit(1 if missing else 0)
