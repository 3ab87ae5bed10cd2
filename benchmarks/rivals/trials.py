"""What the contenders are put through: much usage at once, keys and usage that come late, and kill -9."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any

import orjson
import psycopg
from rivals.ground import Ground
from rivals.judgement import Verdict, judge
from rivals.programs.agreed import SECONDS
from rivals.running import Running, wait_for_rest
from workload import SINCE, event, sending, wait_until, worked_off

from services.domain.directory import directory_of
from services.domain.rating import rate
from services.messages.registry_changes import read_change, to_change
from services.messages.usage_events import Accepted, read_record

ORGANIZATIONS = 8
_DEADLINE_SECONDS = 90
_AT_ONCE = 160
_PAUSE_SECONDS = 0.1
_BATCH = 100
_RUN_SECONDS = 2.5
"""From when all of them write again until they are killed: long enough to have committed, and for more to be open."""

Event = dict[str, Any]


def usage(trial: str, numbers: Sequence[int]) -> list[Event]:
    """Events of yesterday, whose ids say which trial they are for."""
    return [event(f"org-{number // 2 % ORGANIZATIONS}", number) | {"id": f"{trial}-{number}"} for number in numbers]


def register_keys(ground: Ground) -> Mapping[str, str]:
    """The keys that are there before all usage: of every second organization; their ids by organization."""
    for number in range(ORGANIZATIONS):
        ground.entitle(f"org-{number}")
    return {org_id: ground.add_key(org_id, **SINCE) for org_id in (f"org-{n}" for n in range(0, ORGANIZATIONS, 2))}


def right_charges(events: Sequence[Event], ground: Ground) -> dict[str, int]:
    """What each event costs, in mc, with all that is known in the end; from the core, one event at a time."""
    with psycopg.connect(ground.stack.endpoints.registry_dsn) as registry:
        log = registry.execute("SELECT seq, payload FROM registry.log ORDER BY seq").fetchall()
    directory = directory_of((seq, to_change(read_change(bytes(payload)))) for seq, payload in log)
    outcomes = (outcome for each in events for outcome in read_record(orjson.dumps(each), datetime.now(UTC)))
    accepted = [outcome.event for outcome in outcomes if isinstance(outcome, Accepted)]
    if len(accepted) != len(events):
        raise SystemExit("not every event of the workload is good")
    return {each.id: rate(each, directory).amounts.charged_mc for each in accepted}


def late_knowledge(ground: Ground, runners: Sequence[Running], keys: Mapping[str, str], events: int) -> list[Verdict]:
    """Half of the usage is written; keys change, of which one counts from the middle of it; then comes the other half,
    which happened before the changes. What each has written of it all."""
    before = [runner.written for runner in runners]
    first, second = usage("late", range(events // 2)), usage("late", range(events // 2, events))
    with sending(ground.kafka, _BATCH) as send:
        send(first)
        wait_for_rest(runners, before, len(first))
        ground.add_key("org-1", effective_from=first[len(first) // 2]["time"])
        ground.add_key("org-3")
        ground.end_key("org-2", keys["org-2"])
        # Whoever looks for keys has seen what there is by then; and we have corrected what is written.
        time.sleep(2 * SECONDS)
        _wait_for_corrections(ground)
        send(second)
        wait_for_rest(runners, before, len(first) + len(second))
    return _judged(runners, "late", [*first, *second], ground)


def _wait_for_corrections(ground: Ground) -> None:
    with psycopg.connect(ground.stack.endpoints.registry_dsn) as registry:
        (newest,) = registry.execute("SELECT max(seq) FROM registry.log").fetchone() or (0,)
    wait_until("the corrections", lambda: worked_off(ground.database) >= newest, _DEADLINE_SECONDS)


def kills(ground: Ground, runners: Sequence[Running], times: int) -> list[Verdict]:
    """Usage comes in steadily; all are killed at one moment and started again, ``times`` over."""
    before = [runner.written for runner in runners]
    with _coming_in(ground) as sent:
        for _ in range(times):
            _wait_until_all_write(runners)
            time.sleep(_RUN_SECONDS)
            for runner in runners:
                runner.kill()
            for runner in runners:
                runner.start()
        _wait_until_all_write(runners)
    wait_for_rest(runners, before, len(sent))
    return _judged(runners, "kill", sent, ground)


def _wait_until_all_write(runners: Sequence[Running]) -> None:
    before = [runner.written for runner in runners]
    wait_until(
        "all contenders to write",
        lambda: all(runner.written > then for runner, then in zip(runners, before, strict=True)),
        _DEADLINE_SECONDS,
    )


@contextmanager
def _coming_in(ground: Ground) -> Iterator[list[Event]]:
    """Usage of now, a little at a time, while the block runs; the list is what was sent."""
    sent: list[Event] = []
    enough = threading.Event()

    def go_on() -> None:
        numbers = count()
        with sending(ground.kafka, _AT_ONCE // ORGANIZATIONS) as send:
            while not enough.wait(_PAUSE_SECONDS):
                now = {"time": datetime.now(UTC).isoformat()}
                events = [each | now for each in usage("kill", [next(numbers) for _ in range(_AT_ONCE)])]
                sent.extend(events)
                send(events)

    sender = threading.Thread(target=go_on)
    sender.start()
    try:
        yield sent
    finally:
        enough.set()
        sender.join()


def _judged(runners: Sequence[Running], trial: str, events: Sequence[Event], ground: Ground) -> list[Verdict]:
    right = right_charges(events, ground)
    return [judge(right, runner.charged(f"{trial}-%")) for runner in runners]
