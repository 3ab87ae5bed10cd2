"""No piece of a key comes to rest or to light anywhere (invariant I6): the whole stack, logging all it can."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from tests.e2e.canaries import PIECE, Canaries
from tests.e2e.canary_provider import talkative_provider
from tests.e2e.canary_sinks import Sink, files, pages, tables, topics
from tests.e2e.canary_tour import Tour, tours
from tests.e2e.running import Stack, environment, start_stack
from tests.otlp_receiver import collector
from tests.patience import PATIENCE_SECONDS

# What is kept as it was sent, and therefore not tried here: a key that somebody gives out as an opaque id (a scope's, a
# user's, a good event's own). Nothing is read into the shape of ids, and one that was altered would be another id.


def _commands(stack: Stack, usage: Path) -> Iterator[Sink]:
    """What the operator's commands print about all this."""
    for command in (
        ["usage", "publish", str(usage)],
        ["dead-letters", "list", "--json", "--limit", "1000"],
        ["dead-letters", "list"],
    ):
        settings = {"BYOK_KAFKA_BOOTSTRAP": stack.told["kafka"], "BYOK_LEDGER_DSN": stack.told["ledger_dsn"]}
        done = subprocess.run(
            [sys.executable, "-m", "services", *command],
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            env=environment() | settings,
            check=False,
        )
        yield f"byok {' '.join(command[:2])}", done.stdout + done.stderr


def _file_with_keys(tour: Tour, path: Path) -> Path:
    key = tour.key("a row of a file")
    path.write_text(f'{{"time": "{key}", "data": {{"org_id": "{key}\\n"}}}}\n{key}\n{{"id": "{key}", "data": \n')
    return path


@pytest.mark.slow
def test_no_piece_of_a_key_is_anywhere(tmp_path: Path) -> None:
    canaries, sinks = Canaries(), dict[str, int]()
    found = []

    def search(of: Iterator[Sink]) -> None:
        for name, content in of:
            sinks[name] = sinks.get(name, 0) + len(content)
            found.extend(canaries.search(name, content))

    with (
        talkative_provider() as urls,
        collector() as spans,
        start_stack(
            tmp_path / "stack", port_base=None, BYOK_LOG_LEVEL="DEBUG", BYOK_OTLP_TRACES_URL=spans.url, **urls
        ) as stack,
    ):
        all_tours = tours(stack, canaries)
        for tour in all_tours:
            tour.walk()
        for tour in all_tours:
            tour.wait_until_booked()
        all_tours[0].walk_while_a_table_is_gone()
        search(_commands(stack, _file_with_keys(all_tours[0], tmp_path / "usage.jsonl")))
        for tour in all_tours:
            search(iter(tour.answers))
        produced = set(chain.from_iterable(tour.produced for tour in all_tours))
        search(chain(tables(stack), topics(stack, produced), pages(stack)))
    # The services have ended, and sent what they had.
    search((f"span {number}", body) for number, body in enumerate(spans.bodies))
    assert {name for name, _ in spans.spans} == {"byok-console", "byok-ledger", "byok-metering", "byok-registry"}
    (tmp_path / "usage.jsonl").unlink()
    search(files(tmp_path))
    print(  # noqa: T201 (pytest -rP)
        f"{len(canaries.keys)} keys, {canaries.pieces:,} pieces of {PIECE} characters,"
        f" {len(sinks):,} sinks, {sum(sinks.values()):,} bytes: {len(found)} found"
    )
    assert not found, "\n".join(sorted({f"{one.sink} | {one.place} | {one.around!r}" for one in found}))
    # A search that finds nothing proves something only if it would find one.
    logs = b"".join(content for name, content in files(tmp_path) if name.endswith(".log"))
    assert b'"level": "debug"' in logs
    assert b"[masked key]" in logs
    assert b"Traceback" in logs


def test_the_search_finds_a_key_in_every_form() -> None:
    canaries = Canaries()
    key = canaries.key("openai", "here")
    piece = key[20:28]
    for form in (
        key,
        piece,
        key.encode("utf-16").decode("latin-1"),
        f"\\x{key.encode().hex()}",
        f"x{piece.encode().hex().upper()}",
    ):
        assert list(canaries.search("a sink", form.encode("latin-1"))), form
    for skipped in range(3):
        encoded = base64.b64encode(key[skipped:].encode())
        assert list(canaries.search("a sink", b'{"x": "' + encoded + b'"}'))
    assert not list(canaries.search("a sink", f"the hint …{key[-4:]}, and {key[:10]}".encode()))
