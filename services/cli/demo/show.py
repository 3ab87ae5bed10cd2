"""The demo from beginning to end, on a stack of its own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from kafka.errors import KafkaError
from psycopg import Connection
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from schemas.topics import USAGE_EVENTS
from services.cli.demo import figures, report
from services.cli.demo.check import differences, fate_differences
from services.cli.demo.company import ORGANIZATIONS, Arrived, directory
from services.cli.demo.delivery import Expectation, Message, deliveries
from services.cli.demo.people import PEOPLE
from services.cli.demo.registration import Api, ApiError, register_keys, set_plans
from services.cli.demo.workload import simulate
from services.cli.invocation import byok
from services.cli.usage.sender import BatchSender, SendFailed
from services.domain.credits import format_credits_roughly
from services.domain.rate_card import RateCard
from services.key_registry.model_aliases import packaged_aliases
from services.key_registry.rate_cards import packaged_cards
from services.local.endpoints import Endpoints
from services.local.processes import StopRequested, StopSwitch
from services.local.stack import Stack
from services.messages.cloudevents import saying_type
from services.runtime.broker import kafka_producer
from services.runtime.command_failed import CommandFailed
from services.runtime.database import connect
from services.runtime.kafka_access import KafkaAccess

_WEEKS = timedelta(days=28)
_BATCH_EVENTS = 100
_TIMEOUT_SECONDS = 30.0
_STALLED_SECONDS = 60.0
_POLL_SECONDS = 0.1


class Setting(NamedTuple):
    """What one run of the demo is about."""

    start: datetime
    end: datetime
    cards: tuple[RateCard, ...]
    events: int
    seed: int


def run_demo(
    *, events: int, seed: int, data_dir: Path | None, port_base: int | None, keep: bool, switch: StopSwitch
) -> bool:
    """Run it; return whether the ledger agrees with the pure core.

    Raises StackError, StopRequested, or CommandFailed; nothing is left running in any case.
    """
    setting = _setting(events, seed)
    with _directory(data_dir) as folder, _progress() as progress:
        stage = progress.add_task("", total=None)
        stack = Stack(
            folder,
            port_base,
            switch=switch,
            report=lambda what: progress.update(stage, description=f"Starting {what}"),
            people=PEOPLE,
        )
        with stack:
            for notice in stack.notices:
                progress.console.print(f"Note: {notice}.", style="yellow")
            demo = _Demo(setting, stack.endpoints, switch, progress, stage)
            try:
                agrees = demo.run()
            except (ApiError, SendFailed, KafkaError, psycopg.Error) as error:
                raise CommandFailed(f"{type(error).__name__}: {error}", 1) from error
            _where_to_look_next(stack, data_dir, keep=keep)
            if keep:
                stack.wait()
    return agrees


def _setting(events: int, seed: int) -> Setting:
    cards = tuple(document.parse() for document in packaged_cards())
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    # Nothing before the first card has a price.
    start = max((end - _WEEKS).replace(hour=0, minute=0), cards[0].effective_from)
    if end - start < timedelta(days=18):
        raise CommandFailed(
            f"the simulated weeks lie after {cards[0].effective_from:%Y-%m-%d}; this clock says {end:%F}", 1
        )
    return Setting(start, end, cards, events, seed)


@contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    if given is None:
        with tempfile.TemporaryDirectory(prefix="byok-demo-") as folder:
            yield Path(folder)
    elif given.exists() and any(given.iterdir()):
        raise CommandFailed(f"{given} is not empty; the demo wants a directory of its own", 1)
    else:
        yield given


@contextmanager
def _progress() -> Iterator[Progress]:
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


class _Demo:
    def __init__(
        self, setting: Setting, endpoints: Endpoints, switch: StopSwitch, progress: Progress, stage: TaskID
    ) -> None:
        self._setting = setting
        self._endpoints = endpoints
        self._switch = switch
        self._progress = progress
        self._stage = stage
        self._registry = Api(endpoints.registry_url, endpoints.tokens.platform)
        self._ledger_api = Api(endpoints.ledger_url, endpoints.tokens.platform)
        self._expectation = Expectation()

    def run(self) -> bool:
        """Register, simulate, send, wait, and report."""
        with connect(self._endpoints.ledger_dsn, "demo", autocommit=True) as ledger:
            arrived = self._register(ledger)
            self._send(arrived)
            self._wait_until_booked(ledger)
            arrived += self._register_late(ledger)
            return self._report(ledger, arrived)

    def _register(self, ledger: Connection[Any]) -> list[Arrived]:
        self._say("Adding plans and keys", None)
        set_plans(self._registry, self._setting.start)
        arrived = register_keys(self._registry, self._setting.start, late=False)
        self._wait_for_keys(ledger, arrived)
        return arrived

    def _register_late(self, ledger: Connection[Any]) -> list[Arrived]:
        self._say("Adding a key that was in use before we knew of it", None)
        arrived = register_keys(self._registry, self._setting.start, late=True)
        self._wait_for_keys(ledger, arrived)
        return arrived

    def _wait_for_keys(self, ledger: Connection[Any], arrived: list[Arrived]) -> None:
        ids = [each.credential_id for each in arrived]
        self._wait_until(lambda: figures.followed_keys(ledger, ids), "the metering does not take in the keys")

    def _send(self, arrived: list[Arrived]) -> None:
        setting = self._setting
        self._say("Sending events", setting.events)
        known = directory(setting.start, setting.cards, packaged_aliases(), arrived)
        events = simulate(known, seed=setting.seed, count=setting.events, start=setting.start, end=setting.end)
        producer = kafka_producer(
            KafkaAccess(self._endpoints.kafka), "byok-demo", USAGE_EVENTS.name, timeout_seconds=_TIMEOUT_SECONDS
        )
        try:
            sender = BatchSender(producer, _BATCH_EVENTS, timeout_seconds=_TIMEOUT_SECONDS)
            for message in deliveries(events, self._expectation, seed=setting.seed):
                self._send_one(message, sender, producer)
            sender.finish()
        finally:
            producer.close(timeout=1)

    def _send_one(self, message: Message, sender: BatchSender, producer: Any) -> None:
        if self._switch.requested:
            raise StopRequested
        if not message.alone:
            sender.add(message.org_id, message.value)
            self._progress.update(self._stage, completed=sender.events)
            return
        future = producer.send(
            USAGE_EVENTS.name, key=message.org_id.encode(), value=message.value, headers=[saying_type(message.value)]
        )
        future.get(timeout=_TIMEOUT_SECONDS)

    def _wait_until_booked(self, ledger: Connection[Any]) -> None:
        sent = self._expectation.sent
        self._say("Booking", sent)

        def booked() -> bool:
            covered = figures.progress(ledger).events
            self._progress.update(self._stage, completed=covered)
            return covered >= sent

        self._wait_until(booked, f"not all of the {sent:,} events were booked")

    def _wait_until(self, done: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + _STALLED_SECONDS + self._setting.events / 1_000
        while not done():
            if self._switch.requested:
                raise StopRequested
            if time.monotonic() > deadline:
                raise CommandFailed(f"{otherwise}; with --data-dir the logs are kept to look into", 1)
            time.sleep(_POLL_SECONDS)

    def _say(self, what: str, total: int | None) -> None:
        self._progress.reset(self._stage, description=what, total=total)

    def _report(self, ledger: Connection[Any], arrived: list[Arrived]) -> bool:
        self._say("Checking every entry", None)
        setting, covered = self._setting, figures.progress(ledger)
        letters = figures.dead_letters(ledger)
        entries = figures.current_entries(ledger)
        known = directory(setting.start, setting.cards, packaged_aliases(), arrived)
        found = differences(self._expectation, entries, known)
        found += fate_differences(self._expectation, covered, {reason: count for reason, count, *_ in letters})
        self._progress.stop()
        console = report.report_console()
        _savings(console, ledger, setting)
        report.heading(console, "One entry, explained")
        entry_id = figures.an_entry_worth_explaining(ledger)
        if entry_id is not None:
            report.receipt(console, self._ledger_api.call("GET", f"/v1/entries/{entry_id}/receipt"))
        report.heading(console, "What became of the events")
        report.fates(console, covered, letters)
        count, refunded = figures.corrections(ledger)
        console.print(
            f"{count:,} entries were put right when a key was registered after its use:"
            f" {format_credits_roughly(refunded)} credits given back"
        )
        report.heading(console, "Is it right?")
        report.verdict(console, len(entries), found)
        return not found


def _savings(console: Console, ledger: Connection[Any], setting: Setting) -> None:
    plans = {each.org_id: "→".join(plan.value for plan, _ in each.plans) for each in ORGANIZATIONS}
    report.heading(console, f"Credits from {setting.start:%Y-%m-%d} to {setting.end:%Y-%m-%d}, by organization")
    rows = figures.by_organization(ledger)
    report.money_table(
        console,
        ("organization", "plan"),
        (row._replace(label=(row.label[0], plans.get(row.label[0], ""))) for row in rows),
    )
    report.heading(console, "By kind of use")
    report.money_table(console, ("event type",), figures.by_event_type(ledger))
    report.heading(console, "Calls of models, by provider and whose key was used")
    report.money_table(console, ("provider", "key"), figures.by_key(ledger))
    report.heading(console, "By day")
    report.chart(console, figures.by_day(ledger))
    flags = figures.flags(ledger)
    if flags:
        report.heading(console, "To look into")
        for flag, count in flags:
            console.print(f"{count:,} entries are flagged {flag}")


def _where_to_look_next(stack: Stack, data_dir: Path | None, *, keep: bool) -> None:
    console = report.report_console()
    report.heading(console, "Where to look next")
    here = byok()
    if keep:
        endpoints = stack.endpoints
        lines = [
            f"console    {endpoints.console_url}   (sign in as one of its people)",
            f"ledger     {endpoints.ledger_url}/docs",
            f"registry   {endpoints.registry_url}/docs",
            f"metrics    {endpoints.metrics[-2]}",
            f"settings   set -a; . {stack.environment_file}; set +a",
            f"then       {here} verify; {here} explain --help; {here} quote --help",
            "Ctrl-C stops everything.",
        ]
    elif data_dir is not None:
        lines = [
            f"{here} up --data-dir {data_dir}   the same ledger again, with the console",
            f"set -a; . {stack.environment_file}; set +a; {here} verify   in another terminal",
            "README.md, docs/   how it works",
        ]
    else:
        lines = [
            f"{here} demo --keep                 leaves all this running, with the console",
            f"{here} up                          an empty stack of your own",
            f"{here} usage publish FILE --help   your own events, from a file",
            f"{'README.md, docs/':<{len(here) + 29}}how it works",
        ]
    for line in lines:
        console.print(f"  {line}", soft_wrap=True)
