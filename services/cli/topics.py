"""`byok topics create` and `check`: the topics of the contract on a cluster."""

from __future__ import annotations

import json as json_format
from typing import Annotated

import typer

from services.cli.terminal import DataDir, Json, explained, results, stack_settings, table
from services.runtime.command_failed import USAGE, CommandFailed

ReplicationFactor = Annotated[
    int | None,
    typer.Option(
        "--replication-factor",
        min=1,
        help="On how many brokers each record is. Default: 3; where there are fewer brokers, say so.",
        show_default=False,
    ),
]


def create(*, replication_factor: ReplicationFactor = None, data_dir: DataDir = None) -> None:
    """Create the topics that are missing; what is there is left as it is.

    A record counts as written when all but one of its brokers have it
    (min.insync.replicas). No service ever creates a topic.

    Needs BYOK_KAFKA_BOOTSTRAP. Exit status: 0; 2 wrong options or settings, or
    fewer brokers than that; 3 the broker does not answer, or refuses.
    """
    with explained("topics create"):
        from kafka.errors import InvalidReplicationFactorError

        from services.runtime.kafka_access import KafkaSettings
        from services.runtime.topics import REPLICATION_FACTOR, create_topics

        factor = replication_factor or REPLICATION_FACTOR
        try:
            made = create_topics(stack_settings(data_dir, KafkaSettings).kafka, replication_factor=factor)
        except InvalidReplicationFactorError:
            raise CommandFailed(
                f"the cluster has fewer than {factor} brokers; with --replication-factor 1 it loses what its one broker"
                " loses",
                USAGE,
            ) from None
    for name in made:
        typer.echo(f"created {name}")
    if not made:
        typer.echo("All topics are there; `byok topics check` says whether they are as they should be.")


def check(*, replication_factor: ReplicationFactor = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Hold the topics against the contract: partitions, replication, retention, clean-up.

    More partitions of usage events, more replicas and a longer retention are
    no difference. By default as many replicas are wanted as there are brokers,
    at most 3.

    Needs BYOK_KAFKA_BOOTSTRAP. Exit status: 0; 1 something differs; 2 wrong
    options or settings; 3 the broker does not answer, or refuses.
    """
    with explained("topics check"):
        from services.runtime.kafka_access import KafkaSettings
        from services.runtime.topics import differences

        found = differences(stack_settings(data_dir, KafkaSettings).kafka, replication_factor=replication_factor)
    if json:
        typer.echo(json_format.dumps([difference._asdict() for difference in found]))
    elif found:
        shown = table("topic", "setting", "is", "should be")
        for difference in found:
            shown.add_row(*difference)
        results().print(shown)
    else:
        typer.echo("All topics are as they should be.")
    raise typer.Exit(1 if found else 0)
