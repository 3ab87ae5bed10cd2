"""`byok audit verify`: whether the audit log is what was written."""

from __future__ import annotations

import json as json_format
import re
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.terminal import DataDir, Json, counting, explained, stack_settings
from services.runtime.command_failed import CommandFailed

if TYPE_CHECKING:
    from services.key_registry.audit.chain import BrokenChain


def verify(
    *,
    head: Annotated[
        str | None, typer.Option(metavar="HASH", help="A head that was printed before: it must still be in the log.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Derive the chain of the audit log again, and print its head.

    Finds rows that were changed, deleted or exchanged, and an end that was
    cut off. Who can write to the database as its owner could also write the
    whole log anew: keep the head that this prints where they cannot reach it,
    and give it with --head the next time.

    Needs BYOK_REGISTRY_DSN. Reads one snapshot and holds up nobody.

    Exit status: 0 no difference; 1 the first row that is broken is named;
    2 wrong options or settings; 3 the database does not answer.
    """
    with explained("audit verify"):
        from services.key_registry.audit.chain import BrokenChain
        from services.key_registry.audit.verify import verify_audit
        from services.key_registry.settings import RegistryDatabase
        from services.runtime.database import connect

        kept = None if head is None else _hash(head)
        dsn = stack_settings(data_dir, RegistryDatabase).registry_dsn.get_secret_value()
        with connect(dsn, "audit-verify") as connection, counting("Checking the audit log") as report:
            try:
                found = verify_audit(connection, kept, report)
            except BrokenChain as broken:
                _show_broken(broken, json=json)
                raise typer.Exit(1) from None
    if json:
        typer.echo(json_format.dumps({"differences": 0, "rows": found.rows, "head": found.head.hex()}))
    else:
        typer.echo(f"{found.rows:,} rows, 0 differences\nhead {found.head.hex()}")


def _hash(text: str) -> bytes:
    if re.fullmatch(r"[0-9a-f]{64}", text) is None:
        raise CommandFailed("--head: write the 64 hexadecimal digits that this command printed")
    return bytes.fromhex(text)


def _show_broken(broken: BrokenChain, *, json: bool) -> None:
    if json:
        typer.echo(json_format.dumps({"differences": 1, "row": broken.seq, "what": str(broken)}))
    else:
        typer.echo(f"the audit log is broken: {broken}")
