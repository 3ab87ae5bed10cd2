"""`byok up`: the whole stack on this machine, until interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from services.local.processes import StopSwitch
    from services.local.stack import Stack

DEFAULT_PORT_BASE = 18_400

_READY = """\
Ready to meter.

  console    {console_url}   (sign in as whom you like)
  registry   {registry_url}/openapi.json
  ledger     {ledger_url}/openapi.json
  Kafka      {kafka}
  database   {database}

In another terminal:

  set -a; . {environment_file}; set +a     # the settings of this stack, with its passwords
  {byok} verify

Ctrl-C stops everything; what was acknowledged stays in {data_dir},
and what is not booked by then is booked after the next start."""


def up(
    data_dir: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(".byok"),
    port_base: Annotated[int, typer.Option(help="The first of seven consecutive ports.")] = DEFAULT_PORT_BASE,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON when ready to meter.")] = False,  # noqa: FBT002  # a flag of the command line
) -> None:
    """Run the whole stack on this machine: broker, PostgreSQL, registry, metering, ledger and console."""
    from rich.console import Console

    from services.local.processes import StackError, StopRequested, StopSwitch, stop_on_signals

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    switch = StopSwitch()
    # Before the long imports, so that an early Ctrl-C ends as cleanly as a late one.
    with stop_on_signals(switch):
        try:
            _run(data_dir, port_base, switch, console, json=json)
        except StopRequested:
            console.print("Stopped before it was ready.")
        except StackError as error:
            console.print(f"byok up: {error}", style="red")
            raise typer.Exit(1) from None


def _run(data_dir: Path, port_base: int, switch: StopSwitch, console: Console, *, json: bool) -> None:
    from services.cli.demo.people import PEOPLE
    from services.local.stack import Stack

    stack = Stack(
        data_dir,
        port_base,
        switch=switch,
        report=lambda what: console.print(f"Starting {what} …", style="dim"),
        people=PEOPLE,
    )
    with stack:
        console.print(_welcome(stack, data_dir))
        for notice in stack.notices:
            console.print(f"\nNote: {notice}.", style="yellow")
        if stack.pause is not None:
            console.print(f"\nBut {stack.pause}.", style="yellow")
        if json:
            typer.echo(stack.endpoints.model_dump_json())
        stack.wait()
        console.print("Stopping …", style="dim")
    if stack.owes:
        console.print(
            f"Usage that was acknowledged and is not booked yet is kept in {data_dir}; the next start books it."
        )


def _welcome(stack: Stack, data_dir: Path) -> str:
    import shlex
    from urllib.parse import urlsplit

    from services.cli.invocation import byok

    endpoints = stack.endpoints
    dsn = urlsplit(endpoints.ledger_dsn)
    return _READY.format(
        byok=byok(),
        **endpoints.model_dump(include={"console_url", "registry_url", "ledger_url", "kafka"}),
        database=f"postgresql://{dsn.username}@{dsn.hostname}:{dsn.port}{dsn.path}",
        environment_file=shlex.quote(str(stack.environment_file)),
        data_dir=data_dir,
    )
