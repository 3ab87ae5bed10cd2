"""`byok registry rebuild`: a registry's database brought up to the history that the ledger keeps."""

from __future__ import annotations

import json as json_format
import logging
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.terminal import DataDir, DryRun, Json, Yes, confirm, counting, explained, stack_settings
from services.runtime.command_failed import AWAY, CommandFailed

if TYPE_CHECKING:
    from services.key_registry.handlers.rebuilding import Rebuilt
    from services.runtime.kafka_access import KafkaAccess

_SHOWN = 20
# A cluster that is just being restored is slow to answer.
_TOPIC_SECONDS = 30.0
_OR_WITHOUT = "Where the topic is lost for good: --without-topic"


def rebuild(
    *,
    end_lost: Annotated[
        bool, typer.Option("--end-lost", help="Then end every credential whose secret is lost, as DELETE would.")
    ] = False,
    without_topic: Annotated[
        bool, typer.Option("--without-topic", help="The topic is lost: what it had beyond the ledger is given up.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Bring a registry's database, empty or restored from a backup, up to the ledger's history of it.

    The log gets the same changes under the same numbers, byte for byte; plans,
    rate cards and credentials are made from it. Secrets are not in it: a
    credential whose key was added or replaced since the backup is lost. It goes
    on to apply, for events are priced by the log, and leases of it are refused
    (credential_lost) until its owner rotates a key in, or it is ended: by
    DELETE, or all of them here with --end-lost. Of credentials that the log has
    ended since the backup the secrets are destroyed.

    A worker must have read the topic to its end first, or a number would be
    given twice: so the broker is asked, unless you say that the topic is lost.
    All is one transaction: it can be broken off and started again at any time.

    Needs BYOK_REGISTRY_DSN, BYOK_LEDGER_DSN and BYOK_KAFKA_BOOTSTRAP. Exit
    status: 0; 1 not confirmed, the topic has more than the ledger, or the
    database has other changes under the same numbers; 2 wrong options or
    settings; 3 a database or the broker does not answer.
    """
    with explained("registry rebuild"):
        from services.books.registry_log import RegistryForkedError
        from services.cli.settings import RebuildSettings
        from services.key_registry.database.sessions import open_engine, sessions_on
        from services.key_registry.handlers import rebuilding
        from services.key_registry.log.comparison import history_of

        settings = stack_settings(data_dir, RebuildSettings)
        engine = open_engine(settings.registry_dsn.get_secret_value())
        try:
            sessions, history = sessions_on(engine), history_of(settings.ledger_dsn.get_secret_value())
            if not without_topic:
                _require_followed(settings.kafka, max((change.seq for change in history), default=0))
            with counting("Looking") as report:
                found = rebuilding.rebuild(sessions, history, dry_run=True, report=report)
            if not json:
                _show(found)
            ended = 0
            if not dry_run and (found.changes or (end_lost and found.lost)):
                confirm(_question(found, end_lost=end_lost), yes=yes)
                with counting("Rebuilding") as report:
                    found = rebuilding.rebuild(sessions, history, dry_run=False, report=report)
                if end_lost:
                    with counting("Ending") as report:
                        ended = rebuilding.end_lost(sessions, report)
        except RegistryForkedError as error:
            raise CommandFailed(f"{error}; see docs/runbook.md, 'Registry forked'", 1) from None
        finally:
            engine.dispose()
    if json:
        typer.echo(json_format.dumps(found._asdict() | {"dry_run": dry_run, "lost_ended": ended}))
    elif not dry_run and (found.changes or ended):
        typer.echo(f"Done: the log ends with change {found.last_seq:,}. Lost credentials ended: {ended:,}.")


def _require_followed(kafka: KafkaAccess, newest: int) -> None:
    """Raise CommandFailed where the topic has a change that the ledger, which ends with ``newest``, has not read."""
    from kafka.errors import AuthorizationError, KafkaError

    from services.key_registry.log.comparison import newest_of
    from services.key_registry.log.sender import ChangeSender
    from services.runtime.broker_refusals import BrokerRefused
    from services.runtime.topics import TopicMissingError

    # Its client says a hundred times what is said here once.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    try:
        with closing(ChangeSender(kafka, timeout_seconds=_TOPIC_SECONDS)) as sender:
            sender.destination()
            sent = newest_of(sender.records_from(0))
    except (BrokerRefused, AuthorizationError):
        raise
    except TopicMissingError as error:
        raise CommandFailed(f"{error}. {_OR_WITHOUT}", AWAY) from None
    except KafkaError as error:
        raise CommandFailed(
            f"the topic cannot be asked whether it has more than the ledger ({type(error).__name__}): repeat this once"
            f" the broker answers. {_OR_WITHOUT}",
            AWAY,
        ) from None
    if sent > newest:
        raise CommandFailed(
            f"the topic has change {sent}, and the ledger ends with change {newest}: let a worker read the topic to its"
            " end, and repeat this",
            1,
        )


def _question(found: Rebuilt, *, end_lost: bool) -> str:
    doing = [f"bring back {found.changes:,} changes"] if found.changes else []
    doing += [f"end {len(found.lost):,} lost credentials"] if end_lost and found.lost else []
    question = " and ".join(doing)
    return f"{question[0].upper()}{question[1:]}?"


def _show(found: Rebuilt) -> None:
    if not found.changes:
        typer.echo(f"The registry has every change that the ledger has; its log ends with change {found.last_seq:,}.")
    else:
        typer.echo(f"{found.changes:,} changes are missing; with them the log ends with change {found.last_seq:,}.")
        typer.echo(f"  plans        {found.plans:,}")
        typer.echo(f"  rate cards   {found.rate_cards:,}")
        typer.echo(f"  aliases      of {found.model_aliases:,} providers' models")
        typer.echo(f"  credentials  {found.credentials:,}, of which {found.added:,} were not there at all")
        typer.echo(f"    ended      {found.ended:,}: what there is of their secrets is destroyed")
        typer.echo(f"    lost       {found.newly_lost:,}: they apply, and their secrets are gone")
    if found.holes:
        typer.echo(f"{found.holes:,} numbers are nowhere: older states, which the topic had compacted away.")
    if found.lost:
        shown = ", ".join(found.lost[:_SHOWN]) + (", …" if len(found.lost) > _SHOWN else "")
        typer.echo(f"{len(found.lost):,} credentials are lost: {shown}")
