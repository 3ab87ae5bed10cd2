"""The commands of `byok`: a list of registrations.

`byok --help` must answer at once, so a command's module imports what is heavy inside its functions only.
"""

from __future__ import annotations

import gc
import importlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import (
    audit,
    credentials,
    db,
    dead_letters,
    explain,
    kek,
    models,
    plan,
    registry,
    registry_log,
    token,
    topics,
    up,
    verify,
)
from services.cli.demo.run import demo
from services.cli.rate_card import commands as rate_card
from services.cli.rate_card.importing import import_
from services.cli.usage import list_profiles, publish

if TYPE_CHECKING:
    from services.runtime.settings import Settings


def _say_version(wanted: bool) -> None:  # noqa: FBT001  # as the option hands it over
    if wanted:
        from services.runtime.release import release

        typer.echo(f"byok {release()}")
        raise typer.Exit


app = typer.Typer(
    name="byok",
    no_args_is_help=True,
    # Local variables hold keys and passwords; a traceback must not show them.
    pretty_exceptions_show_locals=False,
)


@app.callback()
def byok(
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Print the version, and end.")
    ] = False,
) -> None:
    """Credit metering for customers who bring their own LLM API keys."""


app.command()(up.up)
app.command()(demo)
app.command()(token.token)
app.command()(verify.verify)
app.command()(explain.quote)
app.command()(explain.explain)

usage = typer.Typer(help="Usage events.", no_args_is_help=True)
usage.command()(publish.publish)
usage.command("profiles")(list_profiles.list_profiles)
app.add_typer(usage, name="usage")

letters = typer.Typer(help="Refused events: which, why, and once more.", no_args_is_help=True)
letters.command("list")(dead_letters.list_)
letters.command()(dead_letters.show)
letters.command()(dead_letters.replay)
letters.command()(dead_letters.status)
letters.command()(dead_letters.resume)
app.add_typer(letters, name="dead-letters")

cards = typer.Typer(help="Rate cards: dated, never edited.", no_args_is_help=True)
cards.command()(rate_card.check)
cards.command()(rate_card.publish)
cards.command("import")(import_)
app.add_typer(cards, name="rate-card")

keys = typer.Typer(help="Customers' own keys, by the key registry's API.", no_args_is_help=True)
keys.command()(credentials.add)
keys.command("list")(credentials.list_)
keys.command()(credentials.show)
keys.command()(credentials.rotate)
keys.command()(credentials.undo)
keys.command()(credentials.verify)
keys.command()(credentials.enable)
keys.command()(credentials.disable)
keys.command()(credentials.delete)
app.add_typer(keys, name="credentials")

plans = typer.Typer(help="The plans of organizations.", no_args_is_help=True)
plans.command()(plan.get)
plans.command("set")(plan.set_)
app.add_typer(plans, name="plan")

priced = typer.Typer(help="Models: what they cost, and their other names.", no_args_is_help=True)
priced.command("list")(models.list_)
priced.command()(models.alias)
app.add_typer(priced, name="models")

log = typer.Typer(help="The log of everything that moves a price.", no_args_is_help=True)
log.command()(registry_log.republish)
app.add_typer(log, name="registry-log")

broker = typer.Typer(help="The topics of the contract on a Kafka cluster.", no_args_is_help=True)
broker.command()(topics.create)
broker.command()(topics.check)
app.add_typer(broker, name="topics")

keks = typer.Typer(help="Key-encryption keys.", no_args_is_help=True)
keks.command()(kek.status)
keks.command()(kek.rotate)
keks.command()(kek.rewrap)
keks.command()(kek.retire)
app.add_typer(keks, name="kek")

trail = typer.Typer(help="The audit log: who did what with which key.", no_args_is_help=True)
trail.command()(audit.verify)
app.add_typer(trail, name="audit")

database = typer.Typer(help="The databases' schemas.", no_args_is_help=True)
database.command()(db.upgrade)
app.add_typer(database, name="db")


service = typer.Typer(invoke_without_command=True)
service.command()(registry.rebuild)
app.add_typer(service, name="registry")


@service.callback()
def run_registry(context: typer.Context) -> None:
    """Run the key registry alone; or mend its database."""
    if context.invoked_subcommand is None:
        from services.key_registry.settings import RegistrySettings

        _run_service("services.key_registry.main", RegistrySettings)


@app.command()
def metering() -> None:
    """Run one metering worker alone."""
    from services.metering.settings import MeteringSettings

    _run_service("services.metering.main", MeteringSettings)


@app.command()
def ledger() -> None:
    """Run the ledger alone."""
    from services.ledger.settings import LedgerSettings

    _run_service("services.ledger.main", LedgerSettings)


@app.command()
def console() -> None:
    """Run the console alone: pages for people, over the other services' APIs."""
    from services.console.settings import ConsoleSettings

    _run_service("services.console.main", ConsoleSettings)


def _loaded(module: str) -> Any:
    """A service. What loading makes stays, and to look through it again and again for garbage takes a tenth of it."""
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        gc.enable()


def _run_service(module: str, its_settings: type[Settings]) -> None:
    from services.runtime.logs import configure_logs, log_crashes, logger
    from services.runtime.settings import SettingsError

    # Also what ends it before it begins is a line of JSON: whoever collects the logs reads nothing else.
    configure_logs("INFO", module.split(".")[1])
    log_crashes()
    try:
        # The settings first: a mistake in them is told before the long imports.
        settings = its_settings.load()
        _loaded(module).run(settings)
    except SettingsError as error:
        logger("start").critical("cannot start", error=str(error))
        raise typer.Exit(2) from None
