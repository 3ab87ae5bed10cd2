"""`byok kek`: key-encryption keys (KEKs), what lies under which, and putting new ones in the place of old ones."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.terminal import DataDir, Json, counting, explained, results, stack_settings, table
from services.runtime.command_failed import CommandFailed

if TYPE_CHECKING:
    from psycopg import Connection

    from services.cli.settings import KeyringSettings
    from services.key_registry.keyring.rewrapping import Rewrapped
    from services.key_registry.settings import KekSettings

_SHOWN = 20


def status(*, data_dir: DataDir = None, json: Json = False) -> None:
    """Count the secrets under each key-encryption key (KEK), and name the active.

    A KEK under which nothing is counted can be retired. Destroyed secrets are
    left out: nothing opens them any more.

    Needs BYOK_REGISTRY_DSN, and BYOK_KEK_FILE or BYOK_KEKS. Exit status: 0; 1
    secrets are under a KEK that the keyring does not hold; 2 wrong options or
    settings; 3 the database does not answer.
    """
    with explained("kek status"):
        from services.cli.settings import KeyringSettings
        from services.key_registry.keyring.envelopes import keyring_of
        from services.key_registry.keyring.rewrapping import count_secrets

        settings = stack_settings(data_dir, KeyringSettings)
        with _registry(settings) as connection:
            counts = count_secrets(connection)
        keyring = keyring_of(settings)
        active, held = keyring.active_id, set(keyring.ids)
    missing = sorted(counts.keys() - held)
    if json:
        typer.echo(json_format.dumps({"active": active, "secrets": counts, "held": sorted(held), "missing": missing}))
    else:
        rows = table("key-encryption key", "secrets", "", right=("secrets",))
        for kek_id in sorted(held | counts.keys()):
            note = "active" if kek_id == active else "NOT in the keyring" if kek_id in missing else ""
            rows.add_row(kek_id, f"{counts.get(kek_id, 0):,}", note)
        results().print(rows)
    raise typer.Exit(1 if missing else 0)


def rotate(
    *,
    stage: Annotated[
        bool, typer.Option("--stage", help="Only put the new key into the file; secrets stay under the active one.")
    ] = False,
    to: Annotated[str | None, typer.Option(metavar="KEK", help="Make a key active that is in the file.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Make a new key-encryption key, and put new secrets under it from now on.

    Running registries that read this file take it in at once, without a
    restart. Where they have copies of it: rotate --stage, replace all copies,
    then rotate --to, and replace them again. Until then a registry that does
    not know a key refuses (credential_unusable) what lies under it.

    What is stored already stays under the old key until byok kek rewrap.
    Put the new file into your backup at once.

    Needs BYOK_KEK_FILE. Exit status: 0; 2 wrong options or settings.
    """
    with explained("kek rotate"):
        from services.key_registry.keyring.kek_file import activate_kek, add_kek
        from services.key_registry.settings import KekSettings

        if stage and to is not None:
            raise CommandFailed("--stage makes a key, --to takes one that is there; leave one of them out")
        file = _file(stack_settings(data_dir, KekSettings))
        if to is None:
            kek_id = add_kek(file, activate=not stage)
        else:
            activate_kek(file, kek_id := to)
    if json:
        typer.echo(json_format.dumps({"kek": kek_id, "active": not stage}))
    else:
        typer.echo(f"{kek_id} is in the keyring" + ("." if stage else ", and active. Next: byok kek rewrap"))


def rewrap(*, data_dir: DataDir = None, json: Json = False) -> None:
    """Put every stored secret under the active key-encryption key.

    Runs beside a busy registry, a few rows at a time, and can be broken off
    and started again at any time. Only the keys of secrets are wrapped anew;
    no secret is decrypted.

    Needs BYOK_REGISTRY_DSN, and BYOK_KEK_FILE or BYOK_KEKS. Exit status: 0
    all are under the active key; 1 some are not, and are named; 2 wrong
    options or settings; 3 the database does not answer.
    """
    with explained("kek rewrap"):
        from services.cli.settings import KeyringSettings
        from services.key_registry.keyring import rewrapping as kek_use
        from services.key_registry.keyring.envelopes import keyring_of

        settings = stack_settings(data_dir, KeyringSettings)
        keyring = keyring_of(settings)
        with _registry(settings) as connection, counting("Wrapping anew") as report:
            found = kek_use.rewrap(connection, keyring, report)
    if json:
        told = {"active": found.active_id, "moved": found.moved, "left": found.left}
        typer.echo(json_format.dumps(told | {"unusable": [each._asdict() for each in found.unusable]}))
    else:
        _show_rewrapped(found)
    raise typer.Exit(1 if found.left else 0)


def retire(
    kek_id: Annotated[str, typer.Argument(metavar="KEK", help="As byok kek status names it.")],
    *,
    data_dir: DataDir = None,
) -> None:
    """Take a key-encryption key out of the keyring file; refused while a secret lies under it.

    Keep the old file as long as you keep backups of the database: what lies in
    them can be opened with the old key alone.

    Needs BYOK_REGISTRY_DSN and BYOK_KEK_FILE. Exit status: 0; 1 it still holds
    secrets; 2 wrong options or settings; 3 the database does not answer.
    """
    with explained("kek retire"):
        from services.cli.settings import KeyringSettings
        from services.key_registry.keyring import rewrapping as kek_use

        settings = stack_settings(data_dir, KeyringSettings)
        with _registry(settings) as connection:
            try:
                kek_use.retire(connection, _file(settings), kek_id)
            except kek_use.KekInUse as refused:
                raise CommandFailed(str(refused), status=1) from None
    typer.echo(f"{kek_id} is no longer in the keyring.")


def _registry(settings: KeyringSettings) -> Connection[Any]:
    from services.runtime.database import connect

    return connect(settings.registry_dsn.get_secret_value(), "kek", autocommit=True)


def _file(settings: KekSettings) -> Path:
    from services.runtime.settings import not_set

    if settings.keks is not None:
        raise CommandFailed("the key-encryption keys come from BYOK_KEKS: change them where it is set, and restart")
    if settings.kek_file is None:
        raise not_set("kek_file")
    return settings.kek_file


def _show_rewrapped(found: Rewrapped) -> None:
    typer.echo(f"{found.moved:,} secrets were put under {found.active_id}; {found.left:,} are not under it")
    for each in found.unusable[:_SHOWN]:
        typer.echo(f"  credential {each.credential_id}, version {each.version}: {each.why}")
    if found.left > len(found.unusable):
        typer.echo("Some were added or held meanwhile; run this again.")
