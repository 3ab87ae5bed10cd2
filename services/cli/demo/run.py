"""`byok demo`: the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.runtime.command_failed import CommandFailed

_EVENTS_MIN, _EVENTS_MAX = 2_000, 1_000_000


def demo(
    *,
    events: Annotated[int, typer.Option(min=_EVENTS_MIN, max=_EVENTS_MAX, help="How many good events.")] = 20_000,
    seed: Annotated[int, typer.Option(help="The same seed, the same use.")] = 7,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="A new directory that is kept, to look at with `byok up`. Default: a passing one."),
    ] = None,
    port_base: Annotated[
        int | None,
        typer.Option(help="The first of seven consecutive ports. Default: any free ones.", show_default=False),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")] = False,
) -> None:
    """Simulate four weeks of a company, meter them for real, and show what own keys save.

    Everything runs: PostgreSQL, a broker, the key registry, the metering and
    the ledger. Three organizations (free, pro, enterprise) add keys part-way;
    their use goes through Kafka, with duplicates and bad events in it; one key
    is registered too late, so that the ledger puts its entries right. All
    figures are read from the ledger, and each entry is held against what the
    pure core says; a difference is exit status 1.
    """
    from services.cli.demo.show import run_demo
    from services.local.processes import StackError, StopRequested, StopSwitch, stop_on_signals

    switch = StopSwitch()
    with stop_on_signals(switch):
        try:
            agrees = run_demo(
                events=events, seed=seed, data_dir=data_dir, port_base=port_base, keep=keep, switch=switch
            )
        except StopRequested:
            typer.echo("Stopped; nothing is left running.", err=True)
            raise typer.Exit(130) from None
        except (StackError, CommandFailed) as error:
            typer.echo(f"byok demo: {error}", err=True)
            raise typer.Exit(1) from None
    raise typer.Exit(0 if agrees else 1)
