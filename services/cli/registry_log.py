"""`byok registry-log republish`: the topic anew from the registry's database."""

from __future__ import annotations

import json as json_format

import typer

from services.cli.terminal import DataDir, Json, explained, stack_settings


def republish(*, data_dir: DataDir = None, json: Json = False) -> None:
    """Have the whole registry log sent to its topic again, in the same bytes.

    For a topic that was deleted or lost changes. The running key registry
    begins at once; without one, the next to start does. Readers know what
    they have by its number, so nothing counts twice.

    Needs BYOK_REGISTRY_DSN. Exit status: 0; 2 wrong options or settings; 3
    the database does not answer.
    """
    with explained("registry-log republish"):
        from services.key_registry.log.relay import republish as republish_log
        from services.key_registry.settings import RegistryDatabase

        settings = stack_settings(data_dir, RegistryDatabase)
        changes = republish_log(settings.registry_dsn.get_secret_value())
    typer.echo(json_format.dumps({"changes": changes}) if json else f"{changes:,} changes are sent again.")
