"""From rows to events: mapping, fixed fields, types and identity."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services.cli.usage.fields import DATA_FIELDS, parse_pairs, typed
from services.cli.usage.formats import TimeFormat
from services.cli.usage.mapping import EventBuilder, Mapped, columns_for
from services.cli.usage.sources import Row
from services.cli.usage.times import Shift, time_reader
from services.messages.usage_events import RejectedError

TRACE_ROW = Row(
    7, {"TIMESTAMP": "2023-11-16 18:17:03.9799600", "ContextTokens": "4808", "GeneratedTokens": "10", "note": ""}
)
TRACE_COLUMNS = {"time": "TIMESTAMP", "input_tokens": "ContextTokens", "output_tokens": "GeneratedTokens"}


def builder(
    columns: Mapping[str, str] | None = None,
    fixed: Mapping[str, str] | None = None,
    *,
    defaults: Mapping[str, str] | None = None,
    event_type: str | None = None,
    start: datetime | None = None,
) -> EventBuilder:
    mapped = None if columns is None else {name: (column,) for name, column in columns.items()}
    return EventBuilder(
        Mapped(mapped, fixed or {}, defaults or {}, explicit=frozenset(columns or {})),
        event_type=event_type,
        source="file:trace.csv",
        read_time=time_reader(TimeFormat.ISO, ZoneInfo("UTC")),
        shift=Shift(start),
    )


def test_a_row_of_a_trace_becomes_an_event_named_by_its_place() -> None:
    fixed = {"org_id": "acme", "provider": "anthropic", "credential": "byok:cred-1"}
    assert builder(TRACE_COLUMNS, fixed, event_type="usage.token_usage.v1").event(TRACE_ROW) == {
        "specversion": "1.0",
        "id": "line-7",
        "source": "file:trace.csv",
        "type": "usage.token_usage.v1",
        "time": "2023-11-16T18:17:03.979960+00:00",
        "data": {
            "input_tokens": 4808,
            "output_tokens": 10,
            "org_id": "acme",
            "provider": "anthropic",
            "credential": {"source": "byok", "credential_id": "cred-1"},
        },
    }


def test_an_event_keeps_its_own_identity_and_unknown_fields() -> None:
    own = {
        "specversion": "1.0",
        "id": "e1",
        "source": "runner",
        "type": "usage.tool_call.v1",
        "time": "2026-11-01T00:00:00Z",
    }
    row = Row(3, {**own, "subject": "s", "data": {"org_id": "a", "extra": [1]}})
    assert builder(fixed={"org_id": "b"}, event_type="other").event(row) == {
        **own,
        "time": "2026-11-01T00:00:00+00:00",
        "subject": "s",
        "data": {"org_id": "b", "extra": [1]},
    }


def test_a_fixed_value_wins_over_an_unreadable_cell() -> None:
    row = Row(2, {"time": "2026-11-01T00:00:00Z", "calls": "many"})
    event = builder({"time": "time", "calls": "calls"}, {"calls": "3"}).event(row)
    assert event["data"] == {"calls": 3}


def test_an_empty_cell_is_an_absent_field() -> None:
    row = Row(2, {"time": "2026-11-01T00:00:00Z", "team_id": " ", "id": ""})
    event = builder({"time": "time", "team_id": "team_id", "id": "id"}).event(row)
    assert event["id"] == "line-2"
    assert event["data"] == {}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"time": "noon"},
        {"time": None, "data": None},
        {"time": "2026-11-01T00:00:00+00:00", "data": [1]},
        {"time": "2026-11-01T00:00:00+00:00", "data": {}},
    ],
)
def test_what_is_wrong_with_an_event_is_left_to_the_reader_of_events(values: dict[str, Any]) -> None:
    event = builder().event(Row(1, values))
    assert {name: event[name] for name in event if name not in {"specversion", "id", "source"}} == values


def test_a_fixed_value_mends_no_data_that_is_none() -> None:
    assert builder(fixed={"org_id": "a"}).event(Row(1, {"data": [1]}))["data"] == [1]
    assert builder(fixed={"org_id": "a"}).event(Row(1, {}))["data"] == {"org_id": "a"}


def test_a_time_that_cannot_be_moved_is_rejected() -> None:
    build = builder({"time": "t"}, start=datetime(9999, 12, 31, tzinfo=UTC))
    build.event(Row(2, {"t": "2000-01-01 00:00:00"}))
    with pytest.raises(RejectedError, match="time: is too far from the first row's time"):
        build.event(Row(3, {"t": "2001-01-01 00:00:00"}))


def test_a_refused_first_row_still_sets_the_start() -> None:
    build = builder({"time": "t", "calls": "c"}, start=datetime(2026, 11, 1, tzinfo=UTC))
    with pytest.raises(RejectedError, match="calls: must be a whole number"):
        build.event(Row(2, {"t": "2023-01-01 00:00:00", "c": "x"}))
    event = build.event(Row(3, {"t": "2023-01-01 00:00:05", "c": "1"}))
    assert event["time"] == "2026-11-01T00:00:05+00:00"


@pytest.mark.parametrize(
    ("field", "cell", "expected"),
    [
        ("input_tokens", " 12 ", 12),
        ("calls", "0", 0),
        ("calls", "3.0", 3),
        ("input_tokens", "59200.000", 59200),
        ("input_tokens", 3.0, 3),
        ("user_id", 42, "42"),
        ("succeeded", "False", False),
        ("credential", "platform", {"source": "platform"}),
        ("credential", "byok:a:b", {"source": "byok", "credential_id": "a:b"}),
        ("user_id", "0012", "0012"),
        ("id", "7", "7"),
    ],
)
def test_values_get_the_type_of_their_field(field: str, cell: object, expected: object) -> None:
    value = typed(field, cell)
    assert (value, type(value)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("field", "text"),
    [
        *(("input_tokens", text) for text in ("1.5", "1.000", "1E+05", "1,000", "-1", "1_000", "٣", "", "9" * 19)),
        *(("succeeded", text) for text in ("1", "yes")),
        *(("credential", text) for text in ("", "byok", "byok:", "platform:x", "other:1")),
    ],
)
def test_text_that_is_no_such_value(field: str, text: str) -> None:
    with pytest.raises(RejectedError):
        typed(field, text)


def test_the_fields_are_those_of_the_wire_contract() -> None:
    assert DATA_FIELDS["input_tokens"] is int
    assert DATA_FIELDS["succeeded"] is bool
    assert DATA_FIELDS["team_id"] is str
    assert DATA_FIELDS["credential"] is dict


def test_pairs_keep_later_equals_signs_and_take_the_data_prefix() -> None:
    assert parse_pairs("--set", ["user_id=a=b", "data.org_id=c"]) == {"user_id": "a=b", "org_id": "c"}


@pytest.mark.parametrize("pairs", [["user_id"], ["user_id="], ["nobody=1"], ["org_id=a", "org_id=b"]])
def test_a_wrong_pair_is_named(pairs: list[str]) -> None:
    with pytest.raises(ValueError, match=f"--set {pairs[-1]}"):
        parse_pairs("--set", pairs)


def test_columns_named_like_fields_map_themselves() -> None:
    columns = columns_for({"time": "TS"}, ["TS", "time", "org_id", "x"])
    assert columns == {"time": ("TS",), "org_id": ("org_id",)}
    with pytest.raises(ValueError, match="no such column"):
        columns_for({"time": "TSS"}, ["TS"])


# --- what empty cells mean --------------------------------------------------------------------------------------------


def test_an_empty_cell_is_never_a_call() -> None:
    build = builder({"time": "t", "calls": "n", "succeeded": "ok"}, event_type="usage.tool_call.v1")
    row = {"t": "2026-11-01T00:00:00Z", "n": "", "ok": "true"}
    with pytest.raises(RejectedError, match="calls: is empty, which says nothing; --default calls=…"):
        build.event(Row(2, row))
    with pytest.raises(RejectedError, match="succeeded: is empty"):
        build.event(Row(2, row | {"n": "1", "ok": " "}))


def test_a_default_says_what_an_empty_cell_means() -> None:
    columns = {"time": "t", "calls": "n", "team_id": "team"}
    build = builder(columns, defaults={"calls": "2", "team_id": "none"}, event_type="usage.tool_call.v1")
    row = {"t": "2026-11-01T00:00:00Z", "n": "", "team": ""}
    assert build.event(Row(2, row))["data"] == {"calls": 2, "team_id": "none"}
    assert build.event(Row(3, row | {"n": "5"}))["data"]["calls"] == 5


def test_an_object_without_a_count_has_that_of_the_contract() -> None:
    build = EventBuilder(
        Mapped(columns_for({"time": "t"}, None), explicit=frozenset({"time"})),
        event_type="usage.tool_call.v1",
        source="s",
        read_time=time_reader(TimeFormat.ISO, ZoneInfo("UTC")),
        shift=Shift(None),
    )
    assert build.event(Row(1, {"t": "2026-11-01", "tool": "x"}))["data"] == {"tool": "x"}
    with pytest.raises(RejectedError, match="calls: is empty"):
        build.event(Row(1, {"t": "2026-11-01", "tool": "x", "calls": None}))


# --- columns that are added up ----------------------------------------------------------------------------------------

SUM = Mapped({"input_tokens": ("fresh", "read", "written")}, explicit=frozenset({"input_tokens"}))


def summed(mapped: Mapped, **cells: Any) -> Any:
    build = EventBuilder(
        mapped, event_type=None, source="s", read_time=time_reader(TimeFormat.ISO, None), shift=Shift(None)
    )
    return build.event(Row(2, cells))["data"].get("input_tokens")


def test_columns_are_added_up() -> None:
    assert summed(SUM, fresh="5", read="7.0", written="0") == 12
    assert summed(SUM, fresh=5, read=7.0, written=1) == 13
    assert summed(SUM, fresh="", read=None, written="") is None


def test_an_empty_part_of_a_sum_is_never_taken_for_nothing() -> None:
    with pytest.raises(RejectedError, match="input_tokens: read is empty; --default input_tokens=0"):
        summed(SUM, fresh="5", read="", written="1")
    assert summed(dataclasses.replace(SUM, defaults={"input_tokens": "0"}), fresh="5", read="", written="1") == 6


@pytest.mark.parametrize("part", [True, "1.5", 1.5, "1E+05", "x"])
def test_only_counts_are_added_up(part: Any) -> None:
    with pytest.raises(RejectedError, match="input_tokens: "):
        summed(SUM, fresh="5", read=part, written="1")


def test_a_plus_may_be_a_part_of_a_columns_name() -> None:
    assert columns_for({"input_tokens": "a+b"}, ["a+b"])["input_tokens"] == ("a+b",)
    assert columns_for({"input_tokens": "a+b"}, ["a", "b"])["input_tokens"] == ("a", "b")
    with pytest.raises(ValueError, match="no such column as b"):
        columns_for({"input_tokens": "a+b"}, ["a"])
    with pytest.raises(ValueError, match="only counts can be added up"):
        columns_for({"user_id": "a+b"}, ["a", "b"])


def test_a_column_that_older_files_lack_may_be_optional() -> None:
    assert columns_for({"input_tokens": "a|"}, ["b"]) == {"input_tokens": ("a|",)}
    build = builder({"calls": "n|", "agent_id": "a|"}, defaults={"agent_id": "x"}, event_type="usage.tool_call.v1")
    assert build.event(Row(2, {"tool": "t"}))["data"] == {"agent_id": "x"}
    assert columns_for({"input_tokens": "a|b"}, ["b"]) == {"input_tokens": ("a|b",)}
    with pytest.raises(ValueError, match="no such column"):
        columns_for({"input_tokens": "a|b"}, ["c"])


# --- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("output_tokens", "usage.tool_call.v1"),
        ("", "usage.tool_call.v1"),
        ("usage.node_call.v1", "usage.node_call.v1"),
        ("usage.tool_call.v9", "usage.tool_call.v9"),
    ],
)
def test_a_column_called_type_that_holds_none_gives_way_to_the_option(cell: str, expected: str) -> None:
    event = builder({"type": "type"}, event_type="usage.tool_call.v1").event(Row(2, {"type": cell}))
    assert event["type"] == expected


# --- events that count by units ---------------------------------------------------------------------------------------


def test_units_and_conditions_are_fields_with_names_of_their_own() -> None:
    columns = columns_for({"usage.input": "a+b", "conditions.service_tier": "tier"}, ["a", "b", "tier", "output"])
    assert "usage.output" not in columns
    columns = columns_for(
        {"usage.input": "a+b", "conditions.service_tier": "tier"},
        ["a", "b", "tier", "output"],
        event_type="usage.token_usage.v2",
    )
    build = EventBuilder(
        Mapped(columns, {"usage.web_search": "1", "agent_id": "x"}),
        event_type="usage.token_usage.v2",
        source="s",
        read_time=time_reader(TimeFormat.ISO, None),
        shift=Shift(None),
    )
    assert build.event(Row(2, {"a": "1", "b": "2", "tier": "flex", "output": ""}))["data"] == {
        "usage": {"input": 3, "web_search": 1},
        "conditions": {"service_tier": "flex"},
        "agent_id": "x",
    }
    assert build.counts == ("usage.output", "usage.input")


def test_a_unit_alone_is_one_of_usage() -> None:
    pairs = parse_pairs("--map", ["input=a", "usage.cache_read=b", "data.usage.special=c", "conditions.region=d"])
    assert pairs == {"usage.input": "a", "usage.cache_read": "b", "usage.special": "c", "conditions.region": "d"}
    with pytest.raises(ValueError, match="there is no field 'usage'"):
        parse_pairs("--map", ["usage=a"])


def test_fixed_units_join_those_of_an_event() -> None:
    build = builder(fixed={"conditions.processing": "batch"})
    event = build.event(Row(1, {"data": {"conditions": {"region": "us"}}}))
    assert event["data"] == {"conditions": {"region": "us", "processing": "batch"}}


def test_texts_may_mean_something_else() -> None:
    mapped = Mapped(
        {"conditions.processing": ("batch",)}, values={"conditions.processing": {"TRUE": "batch", "FALSE": None}}
    )
    build = EventBuilder(
        mapped, event_type=None, source="s", read_time=time_reader(TimeFormat.ISO, None), shift=Shift(None)
    )
    assert build.event(Row(2, {"batch": "TRUE"}))["data"] == {"conditions": {"processing": "batch"}}
    assert build.event(Row(2, {"batch": "FALSE"}))["data"] == {}


# --- rows that count nothing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "expected"), [("", True), ("0", True), ("0.0", True), (0, True), ("1", False), ("x", False)]
)
def test_a_row_whose_counts_are_all_empty_or_0_counts_nothing(n: Any, expected: bool) -> None:
    build = builder({"time": "t", "calls": "n", "input_tokens": "m"})
    assert build.counts_nothing(Row(2, {"t": "x", "n": n, "m": ""})) is expected


# --- objects that are no events ---------------------------------------------------------------------------------------


def test_an_object_with_our_names_and_no_data_is_flat() -> None:
    row = {"time": "2026-11-01T00:00:00Z", "org_id": "a", "calls": 2.0, "note": 1}
    event = builder(fixed={"user_id": "u"}, event_type="usage.tool_call.v1").event(Row(1, row))
    assert event["data"] == {"org_id": "a", "calls": 2, "user_id": "u"}
    assert builder().event(Row(1, {"org_id": "a", "type": {"x": 1}}))["type"] == {"x": 1}
    row = {"org_id": "a", "usage": {"input": 5}, "conditions": {"region": "us"}}
    event = builder(event_type="usage.token_usage.v2").event(Row(1, row))
    assert event["data"] == {"org_id": "a", "usage": {"input": 5}, "conditions": {"region": "us"}}


def test_a_key_that_no_row_has_is_known_in_the_end() -> None:
    columns = columns_for({"time": "ts", "usage.cache_read": "usage.chached", "user_id": "who|"}, None)
    build = EventBuilder(
        Mapped(columns, explicit=frozenset({"time", "usage.cache_read", "user_id"})),
        event_type="usage.token_usage.v2",
        source="s",
        read_time=time_reader(TimeFormat.ISO, ZoneInfo("UTC")),
        shift=Shift(None),
    )
    build.event(Row(1, {"ts": "2026-11-01", "usage": {"cached": 5}}))
    assert build.unseen == {"usage.chached"}
