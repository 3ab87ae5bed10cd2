"""`byok usage publish` on a whole stack: what it says became of a file is what the ledger has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.running import Stack
from tests.typed import typed

MODEL = ("--set", "provider=anthropic", "--set", "model=claude-sonnet-4-6")
TRACE = ("--type", "usage.token_usage.v1", "--assume-utc", "--set", "user_id=u", "--set", "agent_id=chat", *MODEL)
CALLS = ("--type", "usage.node_call.v1", "--assume-utc", "--set", "user_id=u", "--set", "node=ask_ai", *MODEL)


class Said(NamedTuple):
    status: int
    summary: dict[str, Any]
    errors: str

    @property
    def became(self) -> tuple[int, int | None, int | None, int]:
        """The exit status, and how many were recorded, duplicates and refused."""
        return (self.status, self.summary["recorded"], self.summary["duplicates"], self.summary["refused"])


def publish(stack: Stack, file: Path, *options: str) -> Said:
    """The command beside the stack, as its users call it."""
    settings = {"BYOK_KAFKA_BOOTSTRAP": stack.told["kafka"], "BYOK_LEDGER_DSN": stack.told["ledger_dsn"]}
    done = typed("usage", "publish", file, *options, "--json", settings=settings)
    assert done.stdout, done.stderr
    return Said(done.returncode, json.loads(done.stdout), done.stderr)


def written(folder: Path, name: str, *lines: str) -> Path:
    file = folder / name
    file.write_text("\n".join(lines) + "\n")
    return file


def charged_tokens(stack: Stack, org: str) -> list[int]:
    """The input tokens of every charge of an organization, in order."""
    query = "SELECT input_tokens FROM ledger.entries WHERE org_id = %s AND kind = 'charge' ORDER BY input_tokens"
    return [row["input_tokens"] for row in stack.sql.execute(query, (org,)).fetchall()]


HEADER = "time,request,input_tokens,output_tokens"
OLD = [f"2026-11-21 10:00:0{number},r{number},{number}00,1" for number in range(1, 4)]
NEW = [f"2026-11-21 11:00:0{number},r{number},{number}00,1" for number in range(4, 6)]


def test_the_command_says_what_became_of_every_event(stack: Stack, tmp_path: Path) -> None:
    org = stack.new_organization()
    file = written(tmp_path, "mixed.csv", "time,model,calls", "2026-11-21,claude-sonnet-4-6,2", "2026-11-21,no-such,1")
    options = (*CALLS[:-2], "--set", f"org_id={org}")
    refused = tmp_path / "refused.jsonl"
    first = publish(stack, file, *options, "--refused", str(refused))
    assert first.became == (1, 1, 0, 1)
    assert first.summary["refused_by_reason"] == {"unpriced_model": 1}
    (row,) = map(json.loads, refused.read_text().splitlines())
    assert (row["line"], row["code"]) == (3, "unpriced_model")
    assert "no price for anthropic/no-such" in row["problem"]
    assert "unpriced_model" in first.errors
    assert publish(stack, file, *options, "--limit", "1").became == (0, 0, 1, 0)


@pytest.mark.parametrize(
    "grown",
    [
        [HEADER, *NEW, *OLD],
        pytest.param([HEADER, *OLD[1:]], marks=pytest.mark.slow),
        pytest.param([HEADER, OLD[0], NEW[0], *OLD[1:]], marks=pytest.mark.slow),
    ],
)
def test_a_file_whose_lines_have_moved_is_refused_before_anything_is_sent(
    stack: Stack, tmp_path: Path, grown: list[str]
) -> None:
    org = stack.new_organization()
    options = (*TRACE, "--set", f"org_id={org}")
    assert publish(stack, written(tmp_path, "usage.csv", HEADER, *OLD), *options).became == (0, 3, 0, 0)
    moved = publish(stack, written(tmp_path, "usage.csv", *grown), *options)
    assert (moved.status, moved.summary["sent"]) == (1, 0)
    assert "is not what was published as line" in moved.errors
    assert "--id-from" in moved.errors
    assert charged_tokens(stack, org) == [100, 200, 300]
    # Rows that are added at the end move nothing.
    assert publish(stack, written(tmp_path, "usage.csv", HEADER, *OLD, *NEW), *options).became == (0, 2, 3, 0)
    assert charged_tokens(stack, org) == [100, 200, 300, 400, 500]


def test_lines_that_move_between_organizations_are_noticed_too(stack: Stack, tmp_path: Path) -> None:
    one, other = stack.new_organization(), stack.new_organization()
    rows = [f"2026-11-21 10:00,{one},100,1", f"2026-11-21 10:01,{other},200,1", f"2026-11-21 10:02,{one},300,1"]
    header = "time,org_id,input_tokens,output_tokens"
    assert publish(stack, written(tmp_path, "two.csv", header, *rows), *TRACE).became == (0, 3, 0, 0)
    new = f"2026-11-21 11:00,{other},400,1"
    moved = publish(stack, written(tmp_path, "two.csv", header, new, *rows), *TRACE)
    assert (moved.status, moved.summary["sent"]) == (1, 0)
    assert charged_tokens(stack, one) + charged_tokens(stack, other) == [100, 300, 200]


@pytest.mark.parametrize(
    "identity", ["row", *(pytest.param(columns, marks=pytest.mark.slow) for columns in ("request", "time,request"))]
)
def test_a_file_that_grows_at_the_top_is_charged_once_by_content_or_columns(
    stack: Stack, tmp_path: Path, identity: str
) -> None:
    org = stack.new_organization()
    options = (*TRACE, "--set", f"org_id={org}", "--id-from", identity)
    assert publish(stack, written(tmp_path, "usage.csv", HEADER, *OLD), *options).became == (0, 3, 0, 0)
    assert publish(stack, written(tmp_path, "usage.csv", HEADER, *NEW, *OLD), *options).became == (0, 2, 3, 0)
    assert charged_tokens(stack, org) == [100, 200, 300, 400, 500]


@pytest.mark.slow
def test_what_is_booked_by_line_is_not_charged_again_by_content(stack: Stack, tmp_path: Path) -> None:
    org = stack.new_organization()
    file, options = written(tmp_path, "usage.csv", HEADER, *OLD), (*TRACE, "--set", f"org_id={org}")
    assert publish(stack, file, *options).status == 0
    for identity in ("row", "request"):
        again = publish(stack, file, *options, "--id-from", identity)
        assert (again.status, again.summary["sent"]) == (1, 0)
        assert "by line already" in again.errors
    other = stack.new_organization()
    assert publish(stack, file, *TRACE, "--set", f"org_id={other}", "--id-from", "row").status == 0
    back = publish(stack, file, *TRACE, "--set", f"org_id={other}")
    assert (back.status, back.summary["sent"]) == (1, 0)


@pytest.mark.slow
def test_a_changed_start_is_another_file(stack: Stack, tmp_path: Path) -> None:
    org = stack.new_organization()
    file, options = written(tmp_path, "usage.csv", HEADER, *OLD), (*TRACE, "--set", f"org_id={org}")
    assert publish(stack, file, *options, "--start", "2026-11-21T00:00:00Z").status == 0
    assert publish(stack, file, *options, "--start", "2026-11-22T00:00:00Z").status == 1
    assert publish(stack, file, *options, "--start", "2026-11-21T00:00:00Z").became == (0, 0, 3, 0)


def test_rows_that_say_the_same_each_count_and_it_is_said(stack: Stack, tmp_path: Path) -> None:
    org = stack.new_organization()
    same = "2026-11-21,3"
    options = (*CALLS, "--set", f"org_id={org}", "--id-from", "row")
    for lines, became in (([same, same], (0, 2, 0, 0)), ([same, "2026-11-22,1", same, same], (0, 2, 2, 0))):
        said = publish(stack, written(tmp_path, "calls.csv", "time,calls", *lines), *options)
        assert said.became == became
        assert "say the same as an earlier one" in said.errors


@pytest.mark.slow
def test_a_dry_run_checks_prices_as_of_each_events_time(stack: Stack, tmp_path: Path) -> None:
    org = stack.new_organization()
    rows = ["2026-11-21,claude-sonnet-4-6,1", "2026-11-21,no-such,1", "2026-04-26,claude-sonnet-4-6,1"]
    file = written(tmp_path, "dry.csv", "time,model,calls", *rows)
    said = publish(stack, file, *CALLS[:-2], "--set", f"org_id={org}", "--dry-run")
    assert (said.status, said.summary["sent"]) == (1, 0)
    assert said.summary["refused_by_reason"] == {"unpriced_model": 1, "no_rate_card": 1}


EXPORTS = Path(__file__).parents[2] / "unit" / "cli" / "usage" / "exports"


@pytest.mark.slow
def test_an_export_of_a_vendor_is_booked_by_unit_and_once(stack: Stack) -> None:
    org = stack.new_organization()
    who = ("--set", f"org_id={org}", "--set", "user_id=ana", "--set", "agent_id=helper")
    file = EXPORTS / "anthropic-console.csv"
    dry = publish(stack, file, "--profile", "anthropic-console", *who, "--dry-run")
    assert (dry.status, dry.summary["rows"], dry.summary["skipped"]) == (0, 3, 1)
    assert publish(stack, file, "--profile", "anthropic-console", *who).became == (0, 2, 0, 0)
    assert publish(stack, file, "--profile", "anthropic-console", *who).became == (0, 0, 2, 0)
    query = "SELECT priced_model, usage, list_mc FROM ledger.entries WHERE org_id = %s ORDER BY list_mc DESC"
    opus, sonnet = stack.sql.execute(query, (org,)).fetchall()
    assert (opus["priced_model"], sonnet["priced_model"]) == ("claude-opus-4-5", "claude-sonnet-4-6")
    # By hand, in USD: 46,981 at 5, 15,969 at 6.25, 100 at 10, 2,000 at 0.5 and 16,932 at 25 a million; 3 searches at
    # 10 a thousand.
    usd = (46_981 * 5 + 15_969 * 6.25 + 100 * 10 + 2_000 * 0.5 + 16_932 * 25) / 1e6 + 3 * 10 / 1_000
    assert opus["list_mc"] == round(usd / 0.005 * 1e6)
    assert sonnet["list_mc"] == round((1_000 * 1.5 + 500 * 7.5) / 1e6 / 0.005 * 1e6)


def test_conditions_that_nobody_prices_are_refused_by_name(stack: Stack, tmp_path: Path) -> None:
    org = stack.new_organization()
    lines = ("time,input,output,tier", "2026-11-21,10,1,standard", "2026-11-21,10,1,by-candlelight")
    said = publish(
        stack,
        written(tmp_path, "tiers.csv", *lines),
        *(*TRACE[2:], "--type", "usage.token_usage.v2", "--map", "conditions.service_tier=tier"),
        *("--set", f"org_id={org}"),
    )
    assert said.became == (1, 1, 0, 1)
    assert said.summary["refused_by_reason"] == {"unpriced_condition": 1}
