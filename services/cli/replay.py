"""What `byok verify --replay` says of a replay."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from services.cli.terminal import results, table
from services.domain.credits import format_credits

if TYPE_CHECKING:
    from services.cli.settings import ReplaySettings
    from services.proof.replay.comparison import Side
    from services.proof.replay.run import Replay
    from services.proof.verify import Report

_SHOWN = 50


def run(settings: ReplaySettings, report: Report) -> Replay:
    """The replay that the settings name. Raises KafkaError where the broker is away for their time-out, and what
    ``replay`` raises.
    """
    from schemas.topics import USAGE_EVENTS
    from services.proof.replay.run import Log, replay
    from services.runtime.broker import wait_for_cluster_id
    from services.runtime.broker_refusals import Right

    access, timeout_seconds = settings.kafka, settings.kafka_timeout_seconds
    rights = [Right("Read", "topic", USAGE_EVENTS.name)]
    cluster_id = wait_for_cluster_id(access, rights=rights, timeout_seconds=timeout_seconds)
    log = Log(access, cluster_id, USAGE_EVENTS.name, timeout_seconds)
    return replay(
        settings.ledger_dsn.get_secret_value(),
        settings.replay_dsn.get_secret_value(),
        log,
        clock=lambda: datetime.now(UTC),
        events_max=settings.metering_batch_events,
        report=report,
    )


def as_json(found: Replay) -> dict[str, object]:
    """All that is known of it."""
    compared = found.comparison
    counts = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    del counts["comparison"]
    return counts | {
        "ledger": _side(compared.ledger),
        "replay": _side(compared.replay),
        "not_compared": dict(compared.not_compared),
        "differences": compared.differences,
        "first": [each._asdict() for each in compared.first],
    }


def _side(side: Side) -> dict[str, object]:
    from services.proof.replay.comparison import SUMS

    return {"digest": side.digest, "identities": side.identities} | dict(zip(SUMS, side.sums, strict=True))


def show(found: Replay) -> None:
    """In words: the two digests, what was not compared, and the differences."""
    console, compared = results(), found.comparison
    rate = round(found.events / found.booking_seconds) if found.booking_seconds else 0
    console.print(
        f"{found.events:,} events booked again in {found.booking_seconds:.1f} s, {rate:,} events/s, knowing the"
        f" registry log up to change {found.registry_seq:,}; {found.seconds:.1f} s in all"
    )
    for name, side in (("ledger", compared.ledger), ("replay", compared.replay)):
        charged = format_credits(side.sums[1])
        console.print(f"{name} {side.digest} {side.identities:,} identities, {charged} credits charged")
    for why, how_many in sorted(compared.not_compared.items()):
        console.print(f"{how_many:,} identities not compared, {why}")
    if found.offsets_beyond:
        console.print(f"{found.offsets_beyond:,} offsets not replayed, which the ledger has not booked yet")
    console.print(f"{compared.differences:,} differences")
    if compared.differences:
        rows = table("identity", "what")
        for each in compared.first[:_SHOWN]:
            rows.add_row(each.place, each.detail)
        console.print(rows)
    if compared.differences > _SHOWN:
        console.print(f"… and {compared.differences - _SHOWN:,} more; --json lists up to {len(compared.first):,}")
