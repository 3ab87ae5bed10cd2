"""`make bench-rivals`: this project's worker beside Faust, Quix Streams and Bytewax, in speed and in money.

All read the same topic and write to the same PostgreSQL. The others run in an environment of their own, which is made
once, under `build`. Writes docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from rivals.contenders import OURS, Contender, rivals
from rivals.ground import Ground, laid
from rivals.prices import write_prices
from rivals.report import Circumstances, Found, page
from rivals.running import Running, WorkedOff, running, work_off
from rivals.trials import kills, late_knowledge, register_keys, usage
from workload import sending

from schemas.topics import USAGE_EVENTS
from services.domain.rate_card import RateCard, in_force, in_order
from services.key_registry.rate_cards import packaged_cards
from services.local.processes import StackError
from tests.kafka.jars import KafkaUnavailableError
from tests.own_packages import NotInstallableError, python_with

_ROOT = Path(__file__).parents[2]
_REQUIREMENTS = Path(__file__).parent / "requirements.txt"
_PAGE = _ROOT / "docs" / "benchmarks.md"
_LATE_EVENTS = 6_000
_PYTHON = "import platform; print('Python', platform.python_version())"
_RELEASE = (
    "import sys; from importlib import metadata\n"
    "try: print(sys.argv[1], metadata.version(sys.argv[1]))\n"
    "except metadata.PackageNotFoundError: pass"
)


class Sizes(NamedTuple):
    """How much there is to do."""

    batched: int
    single: int
    kills: int


def main() -> int:
    """Measure, print and write the page; 1 where it cannot be done, or where our own charges are wrong."""
    options = argparse.ArgumentParser(prog="make bench-rivals", description=__doc__)
    options.add_argument(
        "--events",
        type=int,
        default=200_000,
        help="100 to a record; of what is no multiple of 50,000 the last may wait to be written",
    )
    options.add_argument("--single-events", type=int, default=20_000, help="each a record of its own")
    options.add_argument("--kills", type=int, default=2, help="how often all are killed")
    options.add_argument("--broker", choices=("embedded", "apache"), default="embedded", help="apache needs Java 17")
    options.add_argument("--python", default=sys.executable, help="an interpreter for the others")
    options.add_argument("--only", nargs="+", metavar="TABLE", help="these rivals alone, printed and not written")
    options.add_argument("--page", type=Path, default=_PAGE, help="where the page is written")
    asked = options.parse_args()
    sizes = Sizes(asked.events, asked.single_events, asked.kills)
    load = os.getloadavg()[0]
    try:
        python = python_with("rivals", _REQUIREMENTS, asked.python)
        with laid(asked.broker) as ground:
            found, text = _compare(ground, python, asked.only, sizes, load)
    except (NotInstallableError, StackError, KafkaUnavailableError) as error:
        print(error, file=sys.stderr)
        return 1
    if not asked.only:
        asked.page.write_text(text)
    print(text)
    ours = found[0]
    return int(any(verdict.off_mc for verdict in (ours.late, ours.killed)))


def _compare(
    ground: Ground, python: Path, only: Sequence[str] | None, sizes: Sizes, load: float
) -> tuple[list[Found], str]:
    write_prices(_card_of_now(), ground.prices)
    contenders, missing = _contenders(ground, python, only)
    ground.make_tables(contenders)
    keys = register_keys(ground)
    runners = [Running(contender, ground) for contender in contenders]
    batched = _work_off(ground, runners, "batched", sizes.batched, 100)
    single = _work_off(ground, runners, "single", sizes.single, 1)
    with running(runners):
        late = late_knowledge(ground, runners, keys, _LATE_EVENTS)
        killed = kills(ground, runners, sizes.kills)
    tried = zip(batched, single, late, killed, strict=True)
    found = [
        Found(contender.name, contenders[contender], *each) for contender, each in zip(contenders, tried, strict=True)
    ]
    return found, page(found, missing, _circumstances(ground, python, sizes, load))


def _card_of_now() -> RateCard:
    card = in_force(in_order(packaged.parse() for packaged in packaged_cards()), datetime.now(UTC))
    if card is None:
        raise SystemExit("no rate card is in force")
    return card


def _contenders(ground: Ground, python: Path, only: Sequence[str] | None) -> tuple[dict[Contender, str], list[str]]:
    """Who takes part, with the release, and a sentence for each who cannot."""
    taking_part, missing = {OURS: ""}, []
    for rival in rivals(python, ground.kafka, ground.dsn, ground.prices, USAGE_EVENTS.name):
        if only and rival.table not in only:
            continue
        release = _said(python, _RELEASE, rival.package)
        if release:
            taking_part[rival] = release
        else:
            missing.append(f"{rival.name} is not here: {rival.package} has no build for {_said(python, _PYTHON)}.")
            print(missing[-1], file=sys.stderr)
    return taking_part, missing


def _work_off(ground: Ground, runners: Sequence[Running], trial: str, events: int, batch: int) -> list[WorkedOff]:
    with sending(ground.kafka, batch) as send:
        send(usage(trial, range(events)))
    found = []
    for runner in runners:
        print(f"{runner.contender.name}: {events:,} events, {batch} to a record", file=sys.stderr)
        found.append(work_off(runner, events))
        ground.clear(runner.contender)
    return found


def _circumstances(ground: Ground, python: Path, sizes: Sizes, load: float) -> Circumstances:
    (postgresql,) = ground.database.execute("SHOW server_version").fetchone() or ("?",)
    return Circumstances(
        date=datetime.now(UTC).date().isoformat(),
        cores=os.cpu_count() or 1,
        load=(load, os.getloadavg()[0]),
        python=platform.python_version(),
        rivals_python=_said(python, _PYTHON).removeprefix("Python "),
        postgresql=postgresql,
        broker=ground.broker,
        batched=sizes.batched,
        single=sizes.single,
        kills=sizes.kills,
    )


def _said(python: Path, program: str, *arguments: str) -> str:
    """What a program's text prints on an interpreter."""
    command = (str(python), "-c", program, *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
