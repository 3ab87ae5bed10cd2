"""What the operator's commands share: where the settings come from, how errors end, and how results are shown."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from services.runtime.command_failed import AWAY, USAGE, CommandFailed

S = TypeVar("S", bound="Settings")

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from services.runtime.settings import Settings

_DEFAULT_DATA_DIR = Path(".byok")

_SAY_EVERY_SECONDS = 5.0

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Of `byok up`, whose settings are used. Default: the BYOK_ settings; without any, .byok.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]


def stack_environment(environment: Mapping[str, str], data_dir: Path | None) -> dict[str, str]:
    """The BYOK_ settings to work with: of the stack that is named, else the environment's, else of ``./.byok``.

    Never a mixture of two stacks. Raises CommandFailed where the named directory is none of `byok up`.
    """
    own = {name: value for name, value in environment.items() if _is_setting(name)}
    if data_dir is None and own:
        return own
    file = (data_dir or _DEFAULT_DATA_DIR) / "secrets" / "env"
    if not file.is_file():
        if data_dir is not None:
            raise CommandFailed(f"--data-dir {data_dir}: there is no {file}; `byok up --data-dir {data_dir}` writes it")
        return own
    pairs = (line.partition("=") for line in shlex.split(file.read_text()))
    return {name: value for name, _, value in pairs}


def stack_settings(data_dir: Path | None, of: type[S]) -> S:
    """The settings ``of`` the command; the process's environment says the same from then on.

    Raises SettingsError or CommandFailed.
    """
    from services.runtime.logs import configure_logs

    # What the services' own code logs goes to standard error: output is for results.
    configure_logs("WARNING", "cli")
    found = stack_environment(os.environ, data_dir)
    for name in [name for name in os.environ if _is_setting(name) and name not in found]:
        del os.environ[name]
    os.environ.update(found)
    return of.load()


def _is_setting(name: str) -> bool:
    return name.startswith("BYOK_") and not name.startswith(("BYOK_TOKEN", "BYOK_TEST_"))


@contextmanager
def explained(command: str) -> Iterator[None]:
    """End with a sentence and an exit status where the command cannot do its work; other errors are bugs."""
    import psycopg
    from kafka.errors import AuthorizationError, KafkaError
    from sqlalchemy.exc import DBAPIError

    from services.messages.registry_changes import UnreadableChangeError
    from services.runtime.broker_refusals import BrokerRefused, cause
    from services.runtime.settings import SettingsError

    try:
        yield
    except CommandFailed as refused:
        fail(command, str(refused), refused.status)
    except (SettingsError, UnreadableChangeError) as error:
        fail(command, str(error), USAGE)
    except (psycopg.Error, DBAPIError) as error:
        fail(command, *_of_database((error.orig or error) if isinstance(error, DBAPIError) else error))
    except BrokerRefused as error:
        fail(command, str(error), AWAY)
    except AuthorizationError as error:
        fail(command, f"{cause(error)}; an ACL is missing", AWAY)
    except KafkaError as error:
        fail(command, f"the broker does not answer ({type(error).__name__}); check BYOK_KAFKA_BOOTSTRAP", AWAY)


def _of_database(error: BaseException) -> tuple[str, int]:
    import psycopg

    said = str(error).partition("\n")[0]
    match error:
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return f"the database does not answer: {said}; is it running, and is its DSN right?", AWAY
        case psycopg.errors.UndefinedTable():
            return "the database has no tables of ours; run `byok db upgrade` first", USAGE
        case _:
            return f"the database refuses: {said}", AWAY


def fail(command: str, message: str, status: int) -> NoReturn:
    """Say on standard error why the command ends, and end it."""
    typer.echo(f"byok {command}: {message}", err=True)
    raise typer.Exit(status)


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless ``yes``; anything but a clear yes ends the command with exit status 1."""
    if yes:
        return
    if not typer.confirm(question, err=True):
        typer.echo("Nothing was done.", err=True)
        raise typer.Exit(1)


def results() -> Console:
    """Where results go: standard output; at least 100 columns, so that a table in a file is whole."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, emoji=False, width=160)


@contextmanager
def progress() -> Iterator[Progress]:
    """A bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yields what hears how many are done, and of how many: a bar on a terminal, a line now and then elsewhere."""
    with progress() as bar:
        task = bar.add_task(what, total=None)
        said_at = time.monotonic()

        def report(done: int, every: int) -> None:
            nonlocal said_at
            bar.update(task, completed=done, total=every)
            if bar.disable and time.monotonic() - said_at > _SAY_EVERY_SECONDS:
                said_at = time.monotonic()
                typer.echo(f"{what}: {done:,} of {every:,}", err=True)

        yield report


def table(*headings: str, right: tuple[str, ...] = ()) -> Any:
    """A plain table; columns named in ``right`` hold numbers."""
    from rich.table import Table

    plain = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    for heading in headings:
        plain.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    return plain
