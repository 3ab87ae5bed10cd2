"""`byok usage profiles`: the exports of vendors that `byok usage publish --profile` reads."""

from __future__ import annotations

import json as json_format
from typing import Annotated

import typer

from services.cli.terminal import Json, results


def list_profiles(
    name: Annotated[
        str | None, typer.Argument(help="Of one of them: all that it says, as a file of your own may.")
    ] = None,
    *,
    json: Json = False,
) -> None:
    """List the profiles of `byok usage publish`, where their shapes come from, and what is not confirmed.

    Exit status: 0; 2 there is no such profile.
    """
    from services.cli.terminal import explained
    from services.cli.usage.profile import About, load, packaged
    from services.runtime.command_failed import CommandFailed

    with explained("usage profiles"):
        try:
            said = {each: load(each) for each in ([name] if name else packaged())}
        except ValueError as error:
            raise CommandFailed(str(error)) from None
    if json or name:
        whole = {each: it.model_dump(mode="json", by_alias=True, exclude_unset=True) for each, it in said.items()}
        typer.echo(json_format.dumps(whole[name] if name else whole, indent=None if json else 2, ensure_ascii=False))
        return
    console = results()
    for each, it in said.items():
        about = it.about or About(what="", shape_from=())
        console.print(each, style="bold")
        for title, lines in (
            ("reads", [about.what]),
            ("give", list(about.to_give.values())),
            ("shape from", list(about.shape_from)),
            ("not confirmed", list(about.unconfirmed)),
        ):
            for line in lines:
                console.print(f"  {title}: {line}", soft_wrap=True)
