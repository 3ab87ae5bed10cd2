"""What was found, as a table for the terminal and a page of the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rivals.judgement import Verdict
from rivals.running import WorkedOff


class Found(NamedTuple):
    """What was found of one contender."""

    name: str
    release: str
    batched: WorkedOff
    single: WorkedOff
    late: Verdict
    killed: Verdict


class Circumstances(NamedTuple):
    """Under which it was found."""

    date: str
    cores: int
    load: tuple[float, float]
    """The load average before anything was started, and in the end."""
    python: str
    rivals_python: str
    postgresql: str
    broker: str
    batched: int
    single: int
    kills: int


_HEADINGS = (
    "",
    "events/s, 100 to a record",
    "CPU µs each",
    "events/s, one to a record",
    "CPU µs each",
    "memory",
    "late: wrong",
    "late: money error",
    "killed: lost",
    "killed: doubled",
    "killed: money error",
)


def page(found: Sequence[Found], missing: Sequence[str], circumstances: Circumstances) -> str:
    """The page, in Markdown."""
    c = circumstances
    late, killed = found[0].late, found[0].killed
    releases = ", ".join(dict.fromkeys(each.release for each in found if each.release))
    load = "{:.1f} before it began and {:.1f} in the end".format(*c.load)
    on = "" if c.rivals_python == c.python else f" (the others on {c.rivals_python})"
    return f"""# Beside others

Written by `make bench-rivals` on {c.date}: {c.cores} cores, load average {load},
Python {c.python}{on}, PostgreSQL {c.postgresql}, {c.broker}; {releases}.

{_table(found)}{"".join(f"{chr(10)}{line}{chr(10)}" for line in missing)}
Absolute numbers are this machine's, and other work on it changes them; take the ratios, and run it for your own.

**What runs.** All read the same records from the same topic and write to the same PostgreSQL; while speed is measured,
one program at a time, each a single process. This project runs as its worker, `byok metering`. The others are written
as their documentation shows it (`benchmarks/rivals/programs`): for each event a row of its id, organization, charge and
saving, without an index, by COPY where the program writes itself and by the library's sink where it has one; keys are
looked up as they stand *now*. They look for keys, and commit offsets, once a second, more often than by default.

**What the others leave out.** They check and refuse nothing, keep no evidence, and know no dead letters, no plans, no
claims and no second rate card. Our rows take about 570 bytes with their indexes. So their speed is what it takes to
guarantee little; ours is with all that the [contract](contract.md) promises.

**Speed.** {c.batched:,} events, 100 to a record, and then {c.single:,} events, one to a record, wait in the topic.
From a program's first event until the last one's row is there; this project's worker is timed from the begin of its
first transaction, and what that books is not counted. Processor time is the program's alone, its start left out;
memory is the most that was resident while it worked off the batches.

**Late.** {late.events:,} events of yesterday. When half of them are written, a key arrives that counts from the middle
of these on, another arrives that counts from now on, and one ends; then the other half comes, which happened before.
*Wrong*: events charged once, and not what is right. *Money error*: the differences added up, each without its sign, as
a share of all that is right. Right is what the core says with everything known in the end, one event at a time. How
many are wrong follows from the scenario; that they stay wrong does not.

**Killed.** {killed.events:,} events of now come in steadily. All programs are killed with -9 at one moment and started
again, {_times(c.kills)}. *Lost*: never charged; *doubled*: charged more than once. A primary key and an upsert, if one
thinks of them, take care of most that is doubled, and charge it at the price of the second time.
"""


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def _table(found: Sequence[Found]) -> str:
    rows = [_HEADINGS, ("---", *("---:" for _ in _HEADINGS[1:])), *map(_cells, found)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cells(found: Found) -> tuple[str, ...]:
    return (
        found.name,
        *_speed(found.batched),
        *_speed(found.single),
        f"{found.batched.peak_bytes / 1_000_000:,.0f} MB",
        f"{found.late.wrong:,}",
        _share(found.late),
        f"{found.killed.lost:,}",
        f"{found.killed.doubled:,}",
        _share(found.killed),
    )


def _speed(found: WorkedOff) -> tuple[str, str]:
    return f"{found.per_second:,.0f}", f"{found.processor_micros:.0f}"


def _share(verdict: Verdict) -> str:
    return f"{float(verdict.error):.2%}" if verdict.off_mc else "0"
