"""`byok usage publish` as a process, on a real broker: what it says must be what is on the topic."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from schemas.topics import USAGE_EVENTS
from services.local.children import foreign_environment, listens
from services.local.embedded.broker import broker_program
from services.local.endpoints import Ports
from services.local.processes import StopSwitch, Supervisor
from services.runtime.kafka_access import KafkaAccess
from services.runtime.topics import create_topics
from tests.patience import PATIENCE_SECONDS, wait_for
from tests.topic_reader import everything
from tests.typed import typed

# The first rows of the two Azure traces (Microsoft's Azure Public Dataset, AzureLLMInferenceTrace, CC-BY 4.0).
CODE_TRACE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
2023-11-16 18:17:04.0781490,110,27
"""
CONVERSATION_TRACE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
"""
TRACE_OPTIONS = (
    *("--map", "time=TIMESTAMP", "--assume-utc"),
    *("--map", "input_tokens=ContextTokens", "--map", "output_tokens=GeneratedTokens"),
    *("--type", "usage.token_usage.v1", "--set", "user_id=u", "--set", "agent_id=chat"),
    *("--set", "provider=anthropic", "--set", "model=claude-sonnet-4-6"),
)


class Broker:
    """The embedded broker and everything that is on the topic of usage events."""

    def __init__(self, address: str) -> None:
        self.address = address
        create_topics(KafkaAccess(address), replication_factor=1)

    def records(self) -> list[tuple[str, Any]]:
        """Key and decoded value of every record, in the order of each partition."""
        records = everything(self.address, USAGE_EVENTS.name)
        return [(record.key.decode(), json.loads(record.value)) for record in records]

    def events(self, org_id: str) -> list[dict[str, Any]]:
        """Every event of one organization, out of its batches."""
        values = (value for key, value in self.records() if key == org_id)
        return [event for value in values for event in (value if isinstance(value, list) else [value])]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    folder = tmp_path_factory.mktemp("broker")
    supervisor = Supervisor(folder, StopSwitch())
    port = Ports.free_block().kafka
    try:
        supervisor.start(broker_program(port, folder, foreign_environment()))
        supervisor.wait_until(
            lambda: listens(port), time.monotonic() + PATIENCE_SECONDS, lambda: "the broker does not listen"
        )
        yield Broker(f"127.0.0.1:{port}")
    finally:
        supervisor.stop()


class Result(NamedTuple):
    status: int
    output: str
    errors: str

    @property
    def summary(self) -> dict[str, Any]:
        (line,) = self.output.splitlines()
        return json.loads(line)


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command remembers what it sent; nothing of what other tests sent, or somebody who works here."""
    home = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    return home / "byok" / "published.sqlite"


def publish(broker: Broker, *arguments: str | Path, stdin: bytes = b"") -> Result:
    done = typed("usage", "publish", *arguments, "--bootstrap", broker.address, stdin=stdin)
    return Result(done.returncode, done.stdout, done.stderr)


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def tool_call(org: str, **envelope: Any) -> dict[str, Any]:
    data = {"org_id": org, "user_id": "u", "tool": "search"}
    return {"specversion": "1.0", "type": "usage.tool_call.v1", "time": "2026-11-02T00:00:00Z", "data": data} | envelope


@pytest.mark.parametrize(
    ("org", "trace", "tokens"),
    [("code", CODE_TRACE, [4808, 3180, 110]), ("conversation", CONVERSATION_TRACE, [374, 396])],
)
def test_a_trace_becomes_events_that_start_when_asked(
    broker: Broker, tmp_path: Path, org: str, trace: str, tokens: list[int]
) -> None:
    file = written(tmp_path, f"{org}.csv", trace)
    result = publish(
        broker, file, *TRACE_OPTIONS, "--set", f"org_id={org}", "--start", "2026-11-01T00:00:00Z", "--json"
    )
    assert (result.status, result.summary["sent"], result.summary["refused"]) == (0, len(tokens), 0)
    events = broker.events(org)
    assert [event["data"]["input_tokens"] for event in events] == tokens
    assert [event["id"] for event in events] == [f"line-{2 + index}" for index in range(len(tokens))]
    assert {event["source"] for event in events} == {f"file:{org}.csv"}
    assert events[0]["time"] == "2026-11-01T00:00:00+00:00"
    if org == "code":
        assert events[1]["time"] == "2026-11-01T00:00:00.052000+00:00"


def test_the_same_file_again_sends_the_same_events_and_for_another_organization_its_own(
    broker: Broker, tmp_path: Path
) -> None:
    file = written(tmp_path, "trace.csv", CODE_TRACE)
    for org in ("again", "again", "other"):
        assert publish(broker, file, *TRACE_OPTIONS, "--set", f"org_id={org}").status == 0
    again = broker.events("again")
    assert again[:3] == again[3:]
    assert [event["id"] for event in broker.events("other")] == [event["id"] for event in again[:3]]


def test_good_rows_are_sent_and_bad_ones_listed(broker: Broker, tmp_path: Path) -> None:
    good = json.dumps(tool_call("mixed")).encode()
    lines = [
        b"\xef\xbb\xbf" + json.dumps(tool_call("mixed", id="own", source="runner")).encode() + b"\r",
        b"",
        b"{broken",
        b'{"data": "\xff"}',
        json.dumps(tool_call("mixed", data={"org_id": "mixed"})).encode(),
        b'{"x": "' + b"y" * 1_500_000 + b'"}',
        good,
    ]
    file = written(tmp_path, "mixed.jsonl", b"\n".join(lines))
    listed = tmp_path / "refused.jsonl"
    result = publish(broker, file, "--refused", listed, "--json")
    assert result.status == 1
    assert (result.summary["sent"], result.summary["refused"], result.summary["records"]) == (2, 4, 1)
    refused = [json.loads(line) for line in listed.read_text().splitlines()]
    assert [(row["line"], row["field"]) for row in refused] == [(3, ""), (4, ""), (5, "data.user_id"), (6, "")]
    assert "data.user_id" in result.errors
    events = broker.events("mixed")
    assert [(event["source"], event["id"]) for event in events] == [("runner", "own"), ("file:mixed.jsonl", "line-7")]


def test_csv_as_spreadsheets_write_it(broker: Broker, tmp_path: Path) -> None:
    rows = (
        b'\xef\xbb\xbftime,tool,calls,succeeded,"user, who"\r\n'
        b'2026-11-02T10:00:00Z,"a ""b"", c",2,TRUE,ana\r\n'
        b"\r\n"
        b"2026-11-02T10:00:01Z,x,two,true,ana\r\n"
        b"2026-11-02T10:00:02Z,x,1,true\r\n"
        b"2026-11-02T10:00:03Z,\xe9,1,true,ana\r\n"
        b"2026-11-02T10:00:04Z,y,1,false,bob"
    )
    file = written(tmp_path, "sheet.csv", rows)
    options = ("--type", "usage.tool_call.v1", "--map", "user_id=user, who", "--set", "org_id=sheet")
    result = publish(broker, file, *options, "--json")
    assert (result.status, result.summary["sent"], result.summary["refused"]) == (1, 2, 3)
    first, second = broker.events("sheet")
    assert first["data"] == {"user_id": "ana", "tool": 'a "b", c', "calls": 2, "succeeded": True, "org_id": "sheet"}
    assert (first["id"], second["id"], second["data"]["succeeded"]) == ("line-2", "line-7", False)


def test_flat_json_objects_are_mapped_like_columns(broker: Broker, tmp_path: Path) -> None:
    row = {"ts": 1793577600.5, "who": "ana", "tool": "search", "calls": 3, "org_id": "flat", "cost": 1.5}
    file = written(tmp_path, "flat.jsonl", json.dumps(row))
    options = ("--map", "time=ts", "--map", "user_id=who", "--time-format", "unix", "--type", "usage.tool_call.v1")
    assert publish(broker, file, *options).status == 0
    (event,) = broker.events("flat")
    assert event["data"] == {"org_id": "flat", "user_id": "ana", "tool": "search", "calls": 3}
    assert event["time"] == "2026-11-02T00:00:00.500000+00:00"


def test_batches_are_as_large_as_asked(broker: Broker, tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(tool_call("sized")) for _ in range(7))
    file = written(tmp_path, "sized.jsonl", lines)
    assert publish(broker, file, "--batch", "3", "--json").summary["records"] == 3
    assert publish(broker, file, "--batch", "1", "--limit", "2", "--json").summary["records"] == 2
    values = [value for key, value in broker.records() if key == "sized"]
    assert [len(value) if isinstance(value, list) else "single" for value in values] == [3, 3, 1, "single", "single"]


def test_standard_input_needs_a_source(broker: Broker) -> None:
    line = json.dumps(tool_call("piped")).encode()
    assert publish(broker, "-", stdin=line).status == 2
    assert publish(broker, "-", "--source", "cron", stdin=line).status == 0
    assert [event["source"] for event in broker.events("piped")] == ["cron"]


def test_a_dry_run_sends_nothing(broker: Broker, tmp_path: Path) -> None:
    file = written(tmp_path, "dry.jsonl", json.dumps(tool_call("dry")))
    result = publish(broker, file, "--dry-run")
    assert result.status == 0
    assert '"id":"line-1"' in result.output
    assert broker.events("dry") == []


@pytest.mark.parametrize(
    "options",
    [
        ("--map", "time=NoSuchColumn"),
        ("--set", "calls=many"),
        ("--type", "usage.unknown.v1"),
        ("--start", "yesterday"),
        ("--pace", "0"),
    ],
)
def test_a_command_that_makes_no_sense_sends_nothing(broker: Broker, tmp_path: Path, options: tuple[str, ...]) -> None:
    result = publish(broker, written(tmp_path, "t.csv", CODE_TRACE), *options)
    assert (result.status, result.output) == (2, "")
    assert result.errors.startswith("byok usage publish: ")


@pytest.mark.slow
def test_a_broker_that_is_away_is_exit_1_and_says_how_to_go_on(tmp_path: Path) -> None:
    file = written(tmp_path, "away.jsonl", json.dumps(tool_call("away")))
    nobody = f"127.0.0.1:{Ports.free_block().kafka}"
    done = subprocess.run(
        [sys.executable, "-m", "services", "usage", "publish", file, "--bootstrap", nobody, "--json"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env=os.environ | {"BYOK_KAFKA_TIMEOUT_SECONDS": "2"},
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["sent"] == 0
    assert "Run the same command again" in done.stderr


def test_an_interrupted_paced_trace_ends_cleanly(broker: Broker, tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(tool_call("slow", time=f"2026-11-02T00:{minute:02}:00Z")) for minute in range(50))
    file = written(tmp_path, "slow.jsonl", lines)
    process = subprocess.Popen(
        [sys.executable, "-m", "services", "usage", "publish", file, "--pace", "1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"BYOK_KAFKA_BOOTSTRAP": broker.address},
        # A shell's background jobs, these tests among them perhaps, are started with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for("the first event", lambda: broker.events("slow"))
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert len(broker.events("slow")) == 1
    assert json.loads(output)["rows"] == 2
    assert "Run the same command again" in errors


def test_without_a_ledger_lines_that_have_moved_are_noticed_by_what_this_machine_sent(
    broker: Broker, tmp_path: Path
) -> None:
    options = (*TRACE_OPTIONS, "--set", "org_id=moved")
    header, *rows = CODE_TRACE.splitlines(keepends=True)
    assert publish(broker, written(tmp_path, "t.csv", header + "".join(rows[1:])), *options).status == 0
    grown = written(tmp_path, "t.csv", CODE_TRACE)
    moved = publish(broker, grown, *options, "--json")
    assert (moved.status, moved.summary["sent"]) == (1, 0)
    assert "line 2 is not what was published as line 2" in moved.errors
    # Neither is what was sent by line sent by content, nor a changed start; but another organization has its own.
    assert publish(broker, grown, *options, "--id-from", "row").status == 1
    assert publish(broker, grown, *TRACE_OPTIONS, "--set", "org_id=unmoved").status == 0
    assert len(broker.events("moved")) == 2
    # Whoever knows that the first ones were refused says so.
    assert publish(broker, grown, *options, "--id-from", "line").status == 0
    assert len(broker.events("moved")) == 5


def test_a_memory_that_cannot_be_kept_holds_up_nobody(broker: Broker, tmp_path: Path, memory: Path) -> None:
    file = written(tmp_path, "forgotten.jsonl", json.dumps(tool_call("forgotten")))
    for spoil in (lambda: memory.write_bytes(b"no database" * 1_000), lambda: memory.unlink() or memory.mkdir()):
        memory.parent.mkdir(parents=True, exist_ok=True)
        spoil()
        assert publish(broker, file).status == 0
