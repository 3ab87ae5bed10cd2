"""Each packaged profile on a file made in the shape of its vendor's export (docs/how-to/usage-from-a-file.md)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.cli.usage.job import Job
from services.cli.usage.job import options as given
from services.cli.usage.prices import PriceCheck
from services.cli.usage.profile import load, packaged
from services.cli.usage.publication import DryRun, Publication
from services.cli.usage.rejected_rows import RejectedRow, RejectedRows
from services.cli.usage.sources import Lines
from services.cli.usage.sums import SumCheck
from services.domain.usage import EventType, UsageEvent
from services.runtime.command_failed import CommandFailed

EXPORTS = Path(__file__).with_name("exports")
WHO = {"sets": ["org_id=acme", "user_id=ana", "agent_id=helper"]}


def job(name: str, file: Path | None = None, **options: Any) -> Job:
    (export,) = EXPORTS.glob(f"{name}.*") if file is None else [file]
    return Job.from_options(
        file=export,
        profile_name=name,
        options=given(**WHO | options),
        start=None,
        pace=None,
        batch_events=1,
        limit=None,
        refused_file=None,
        wait_seconds=0,
        dry_run=True,
    )


class Taken(DryRun):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        self.values: list[dict[str, Any]] = []

    def add(self, org_id: str, event: bytes, line: int = 0) -> None:  # noqa: ARG002 - as all senders
        self.values.append(json.loads(event))


def published(name: str, **options: Any) -> tuple[list[dict[str, Any]], list[RejectedRow], Publication]:
    this = job(name, **options)
    rejected, taken = RejectedRows(), Taken()
    with this.open() as file:
        rows, builder = this.rows(file, Lines(file), this.selection(), this.identity())
        sums = this.how.sums
        directory = PriceCheck.with_packaged_cards().directory
        checks = [] if sums is None else [SumCheck(sums, directory, this.read_time)]
        publication = Publication(builder, rejected, skip_empty=this.how.skip_empty, checks=checks)
        publication.run(rows, taken, None)
    return taken.values, rejected.shown, publication


def said(event: dict[str, Any]) -> tuple[Any, ...]:
    data = event["data"]
    used = {unit: count for unit, count in data["usage"].items() if count}
    return (event["time"][:16], data["provider"], data["model"], used, data.get("conditions", {}))


def test_every_profile_has_a_file_and_says_where_its_shape_comes_from() -> None:
    assert {file.stem for file in EXPORTS.iterdir()} == set(packaged())
    for name in packaged():
        about = load(name).about
        assert about is not None
        assert about.shape_from
        assert about.to_give["org_id"]


@pytest.mark.parametrize("name", packaged())
def test_what_the_file_lacks_has_to_be_given(name: str) -> None:
    with pytest.raises(CommandFailed, match="the file does not have all; give --set org_id=…"):
        job(name, sets=["user_id=ana", "agent_id=helper"], source="s", time_zone="UTC")


@pytest.mark.parametrize("name", packaged())
def test_every_event_is_known_again_however_the_export_grows(name: str) -> None:
    extra = {"source": "mac", "time_zone": "UTC"} if name == "ccusage-daily" else {}
    events, _, _ = published(name, **extra)
    ids = [event["id"] for event in events]
    assert len(set(ids)) == len(ids) > 0
    assert not any(id_.startswith("line-") for id_ in ids)
    assert {event["source"] for event in events} == {extra.get("source", name)}
    assert {event["type"] for event in events} == {"usage.token_usage.v2"}


def test_anthropic_console() -> None:
    events, rejected, publication = published("anthropic-console")
    assert list(map(said, events)) == [
        (
            "2026-11-21T00:00",
            "anthropic",
            "claude-opus-4-5-20251101",
            {
                "input": 46981 + 15969 + 100 + 2000,
                "cache_read": 2000,
                "cache_write_5m": 15969,
                "cache_write_1h": 100,
                "output": 16932,
                "web_search": 3,
            },
            {},
        ),
        (
            "2026-11-21T00:00",
            "anthropic",
            "claude-sonnet-4-6",
            {"input": 1000, "output": 500},
            {"processing": "batch", "region": "global"},
        ),
    ]
    assert (rejected, publication.skipped) == ([], 1)


def test_openai_usage() -> None:
    events, rejected, publication = published("openai-usage")
    day = "2026-11-21T00:00"
    assert list(map(said, events)) == [
        (day, "openai", "gpt-4o-2024-08-06", {"input": 59200, "cache_read": 5760, "output": 10646}, {}),
        (day, "openai", "gpt-4o-2024-08-06", {"input": 1000, "output": 200}, {"processing": "batch"}),
        # One request, and so known to be long; the sum over nine that are as long together is refused.
        (day, "openai", "gpt-5.4", {"input": 300000, "output": 200}, {}),
    ]
    assert [(row.line, row.code, row.field) for row in rejected] == [(4, "unpriced_sum", "data.usage.input")]
    assert publication.skipped == 1


def test_a_sum_may_be_taken_at_the_plain_prices_where_that_says_all_of_it() -> None:
    events, rejected, _ = published("openai-usage", event_type="usage.token_usage.v1")
    assert [(event["type"], event["data"]["model"], event["data"]["input_tokens"]) for event in events] == [
        ("usage.token_usage.v1", "gpt-4o-2024-08-06", 59200),
        ("usage.token_usage.v1", "gpt-5.4", 300000),
        ("usage.token_usage.v1", "gpt-5.4", 300000),
    ]
    assert events[0]["data"]["cached_input_tokens"] == 5760
    assert [(row.line, row.field) for row in rejected] == [(3, "conditions.processing")]


def test_openrouter_activity() -> None:
    events, rejected, _ = published("openrouter-activity", sets=["org_id=acme"], maps=["user_id=user"])
    first, second = events
    assert said(first) == (
        "2026-11-21T01:46",
        "openai",
        "openai/gpt-4o",
        {"input": 10389, "cache_read": 1024, "output": 137, "reasoning": 40},
        {},
    )
    assert (first["id"], first["data"]["agent_id"]) == ("gen-1795225617-madeUpAAAAAAAAAAAAAA", "Chatroom")
    assert (second["data"]["usage_status"], second["data"]["agent_id"]) == ("partial", "openrouter")
    assert "usage_status" not in first["data"]
    assert rejected == []


def test_deepseek_amount() -> None:
    events, rejected, _ = published("deepseek-amount")
    # A Saturday, on which the price is one; on the Friday before it changes by the clock.
    assert list(map(said, events)) == [
        (
            "2026-11-21T00:00",
            "deepseek",
            "deepseek-v4-flash",
            {"input": 54400 + 39339, "cache_read": 54400, "output": 1110},
            {},
        )
    ]
    assert [(row.line, row.code, row.field) for row in rejected] == [(6, "unpriced_sum", "time")]


def test_deepseek_amount_by_the_hour(tmp_path: Path) -> None:
    hour = "2026-11-20T{}:00:00+00:00"
    rows = [
        f"x,{hour.format(start)},{hour.format(end)},deepseek-v4-flash,made-up,sk-made,{unit},0.1,{count}"
        for start, end in (("04", "05"), ("05", "07"))
        for unit, count in (("input_cache_miss_tokens", 5), ("output_tokens", 7))
    ]
    header = "user_id,start_time_iso,end_time_iso,model,api_key_name,api_key,type,price,amount"
    file = tmp_path / "amount.csv"
    file.write_text("\n".join([header, *rows]))
    events, rejected, _ = published("deepseek-amount", file=file)
    assert [event["time"][11:16] for event in events] == ["04:00"]
    assert [(row.line, row.code) for row in rejected] == [(4, "unpriced_sum")]


def test_litellm_spend_logs() -> None:
    events, rejected, publication = published("litellm-spend-logs", sets=["org_id=acme"], maps=["user_id=user"])
    assert list(map(said, events)) == [
        (
            "2026-11-21T15:47",
            "anthropic",
            "claude-sonnet-4-6",
            {"input": 160, "cache_read": 20, "cache_write_5m": 10, "cache_write_1h": 20, "output": 20},
            {"service_tier": "standard"},
        ),
        ("2026-11-21T15:50", "openai", "gpt-4o", {"input": 10, "output": 20}, {}),
    ]
    first = events[0]["data"]
    assert (first["user_id"], first["team_id"], first["agent_id"]) == ("ana", "team-a", "litellm")
    # What the proxy answered from its own cache costs nothing, and what failed counts nothing.
    assert (rejected, publication.skipped) == ([], 1)


def test_litellm_spend_logs_as_the_api_answers_them(tmp_path: Path) -> None:
    row = {
        "request_id": "chatcmpl-made-up-5",
        "startTime": "2026-11-21T10:00:00.25Z",
        "model": "gpt-4o",
        "custom_llm_provider": "openai",
        "prompt_tokens": 100,
        "completion_tokens": 5,
        "cache_hit": "False",
        "user": "ana",
        "agent_id": None,
        "metadata": {"usage_object": {"prompt_tokens_details": {"cached_tokens": 64}}},
    }
    file = tmp_path / "logs.json"
    file.write_text(json.dumps([row]))
    events, rejected, _ = published("litellm-spend-logs", file=file, sets=["org_id=acme"], maps=["user_id=user"])
    assert (rejected, said(events[0])[3]) == ([], {"input": 100, "cache_read": 64, "output": 5})


def test_ccusage_daily() -> None:
    events, rejected, publication = published("ccusage-daily", source="mac", time_zone="Europe/Berlin")
    assert list(map(said, events)) == [
        (
            "2026-11-20T23:00",
            "anthropic",
            model,
            {"input": fresh + 256 + 512, "cache_read": 512, "cache_write_5m": 256, "output": output},
            {},
        )
        for model, fresh, output in (("claude-opus-4-5-20251101", 100, 15000), ("claude-sonnet-4-6", 177, 16456))
    ]
    assert (rejected, publication.skipped) == ([], 1)


def test_a_profile_may_be_a_file_of_ones_own_and_options_win_over_it(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"type": "usage.token_usage.v1", "map": {"time": "t", "user_id": "who"}, "source": "x"}))
    how = Job.from_options(
        file=tmp_path / "f.csv",
        profile_name=str(own),
        options=given(maps=["user_id=person"], source="y"),
        start=None,
        pace=None,
        batch_events=1,
        limit=None,
        refused_file=None,
        wait_seconds=0,
        dry_run=True,
    ).how
    assert (how.maps, how.source, how.event_type) == ({"time": "t", "user_id": "person"}, "y", "usage.token_usage.v1")


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ({"mapp": {}}, "mapp: Extra inputs are not permitted"),
        ({"map": {"nobody": "x"}}, "there is no field 'nobody'"),
        ({"type": "usage.none.v1"}, "must be one of"),
        ({"unit_from": "x"}, "belong together"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused_in_words(tmp_path: Path, written: Any, problem: str) -> None:
    file = tmp_path / "own.json"
    file.write_text(json.dumps(written))
    with pytest.raises(ValueError, match=problem):
        load(str(file))
    with pytest.raises(ValueError, match="there is none; there are anthropic-console"):
        load("nobody")


def test_a_sum_of_a_model_that_is_not_listed_is_left_to_metering() -> None:
    check = SumCheck(load("openai-usage").sums, PriceCheck.with_packaged_cards().directory, lambda _value: None)
    event = UsageEvent("o", "s", "i", EventType.TOKEN_USAGE_V2, datetime(2026, 11, 21, tzinfo=UTC), "u")
    usage = (("input", 10**6),)
    event = event._replace(provider="openai", model="none", input_tokens=10**6, usage=usage)
    check(event, None)
