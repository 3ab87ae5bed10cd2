"""``byok-sdk status``: what a spool directory holds, whichever processes write to it; and what was refused, and why."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from byok_sdk.errors import NotRecordedError
from byok_sdk.metrics import Shown, prometheus_text
from byok_sdk.slots import existing, try_take
from byok_sdk.spool import Counts, Spool, read_counts, read_set_aside

_SHOWN_MAX = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Print it; 0 where all is well, 1 where something was refused or cannot be read, 2 where there is no spool."""
    asked = _parser().parse_args(arguments)
    folder: Path | None = asked.spool_dir
    if folder is None or not folder.is_dir():
        sys.stderr.write("no spool directory: give it, or set BYOK_SPOOL_DIR\n")
        return 2
    command: int = asked.command(folder, asked)
    return command


def total(counts: Iterable[Counts]) -> Counts:
    """The counts of several slots as one."""
    each = tuple(counts)
    oldest = [one.oldest_waiting for one in each if one.oldest_waiting is not None]
    return Counts(
        accepted=sum(one.accepted for one in each),
        acknowledged=sum(one.acknowledged for one in each),
        rejected=sum(one.rejected for one in each),
        waiting=sum(one.waiting for one in each),
        held_bytes=sum(one.held_bytes for one in each),
        oldest_waiting=min(oldest, default=None),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="byok-sdk", description="Usage events of a runner that are kept on disk.")
    commands = parser.add_subparsers(required=True)
    set_dir = os.environ.get("BYOK_SPOOL_DIR")
    for name, command, told in (
        ("status", _status, "what waits, what was refused, and whether the counts agree"),
        ("rejected", _rejected, "the events that were refused, one JSON object a line"),
        ("resend", _resend, "let refused events wait again, in slots that no process holds"),
    ):
        own = commands.add_parser(name, help=told, description=told)
        own.add_argument("spool_dir", nargs="?", type=Path, default=Path(set_dir) if set_dir else None)
        own.set_defaults(command=command)
        if name == "status":
            form = own.add_mutually_exclusive_group()
            form.add_argument("--json", action="store_true", help="one JSON object")
            form.add_argument("--prometheus", action="store_true", help="for node_exporter's textfile collector")
        if name == "resend":
            own.add_argument("--code", action="append", help="only what was refused for this; may be repeated")
    return parser


def _status(folder: Path, asked: argparse.Namespace) -> int:
    looked = [_look(path) for _, path in existing(folder)]
    found = [each for each in looked if isinstance(each, Counts)]
    unreadable = [each for each in looked if isinstance(each, str)]
    counts = total(found)
    well = counts.balanced and not counts.rejected and not unreadable
    if asked.prometheus:
        print(prometheus_text(Shown(counts)), end="")  # noqa: T201 - a command prints
    elif asked.json:
        told = counts._asdict() | {"balanced": counts.balanced, "slots": len(found), "unreadable": unreadable}
        print(json.dumps(told))  # noqa: T201 - a command prints
    else:
        print("\n".join(_lines(counts, len(found), unreadable)))  # noqa: T201 - a command prints
    return 0 if well else 1


def _look(path: Path) -> Counts | str:
    try:
        return read_counts(path)
    except NotRecordedError as error:
        return str(error)


def _lines(counts: Counts, slots: int, unreadable: Sequence[str]) -> list[str]:
    waited = "" if counts.oldest_waiting is None else f", the oldest for {time.time() - counts.oldest_waiting:,.0f} s"
    aside = "" if not counts.rejected else " (set aside; see byok-sdk rejected)"
    sign = "=" if counts.balanced else "DIFFERS FROM"
    return [
        f"accepted      {counts.accepted:>12,}  {sign} acknowledged + rejected + waiting",
        f"acknowledged  {counts.acknowledged:>12,}",
        f"rejected      {counts.rejected:>12,}{aside}",
        f"waiting       {counts.waiting:>12,}{waited}",
        f"on disk       {counts.held_bytes:>12,} bytes in {slots} slot{'' if slots == 1 else 's'}",
        *unreadable,
    ]


def _rejected(folder: Path, _asked: argparse.Namespace) -> int:
    shown = 0
    for number, path in existing(folder):
        for code, detail, body in read_set_aside(path, _SHOWN_MAX - shown):
            told: dict[str, Any] = {"slot": number, "code": code, "detail": detail, "event": json.loads(body)}
            print(json.dumps(told, ensure_ascii=False))  # noqa: T201 - a command prints
            shown += 1
    return 1 if shown else 0


def _resend(folder: Path, asked: argparse.Namespace) -> int:
    held = put_back = 0
    for number, _ in existing(folder):
        slot = try_take(folder, number)
        if slot is None:
            held += 1
            continue
        try:
            spool = Spool(slot.path)
            put_back += spool.put_back(asked.code)
            spool.close()
        finally:
            slot.release()
    print(f"{put_back} events wait again")  # noqa: T201 - a command prints
    if held:
        print(f"{held} slots are held by processes that run; they send again by themselves what lacked a price")  # noqa: T201 - a command prints
    return 0
