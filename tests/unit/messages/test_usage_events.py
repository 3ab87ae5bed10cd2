"""Every kind of bad input becomes a rejection that names the field; everything else becomes an event."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from schemas.dead_letters import Reason
from services.domain.usage import Claim, EventType
from services.messages.usage_events import Accepted, Rejected, read_record
from tests.factories import EVENT_TYPES, TEAM, USER, utc, wire

NOW = utc("2026-05-01T12:30:00")
KEY = "sk-proj-0123456789abcdefghij"
DROPPED = object()


def read(value, now=NOW):
    raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    return read_record(raw, now)


BY_UNIT = EVENT_TYPES[4]


def accepted(value, now=NOW):
    (outcome,) = read(value, now)
    assert isinstance(outcome, Accepted), outcome
    assert outcome.source_index == 0
    return outcome.event


def refused(value, now=NOW):
    (outcome,) = read(value, now)
    assert isinstance(outcome, Rejected), outcome
    assert outcome.source_index == 0
    return outcome.rejection


def with_field(event, path, value):
    """The event with ``value`` at ``path`` (``data.calls``), or without that field."""
    *folders, name = path.split(".")
    place = event
    for folder in folders:
        place = place[folder]
    if value is DROPPED:
        del place[name]
    else:
        place[name] = value
    return event


# --- what is accepted -------------------------------------------------------------------------------------------------


def test_a_node_call_is_read_with_its_defaults():
    event = accepted(wire("usage.node_call.v1"))
    assert event.type is EventType.NODE_CALL
    assert event.identity == ("org-1", "runner", "event-1")
    assert event.occurred_at == utc("2026-05-01T12:00:00")
    assert (event.user_id, event.team_id, event.run_id, event.claim) == (USER, None, None, None)
    assert (event.node, event.provider, event.model, event.calls) == ("ask_ai", "openai", "gpt-5", 1)


def test_token_usage_is_read_with_its_defaults():
    event = accepted(wire("usage.token_usage.v1"))
    assert event.type is EventType.TOKEN_USAGE
    assert (event.agent_id, event.provider, event.model) == ("agent-1", "openai", "gpt-5")
    assert (event.input_tokens, event.cached_input_tokens, event.output_tokens, event.calls) == (1_000, 0, 200, 0)


def test_a_tool_call_is_read_with_its_defaults():
    event = accepted(wire("usage.tool_call.v1"))
    assert (event.type, event.tool, event.calls, event.succeeded) == (EventType.TOOL_CALL, "send_mail", 1, True)
    assert (event.provider, event.model) == (None, None)
    assert accepted(wire("usage.tool_call.v1", succeeded=False)).succeeded is False


def test_a_workflow_run_is_read_with_its_defaults():
    event = accepted(wire("usage.workflow_run.v1", parent_run_id="run-0"))
    assert (event.type, event.workflow_id, event.run_id) == (EventType.WORKFLOW_RUN, "flow-1", "run-1")
    assert event.parent_run_id == "run-0"


@pytest.mark.parametrize("event_type", [*EVENT_TYPES[:2], BY_UNIT])
@pytest.mark.parametrize(
    ("credential", "claim"),
    [
        ({"source": "byok", "credential_id": "key-1"}, Claim("key-1")),
        ({"source": "platform"}, Claim(None)),
        ({"source": "platform", "credential_id": "key-1"}, Claim(None)),
        (None, None),
    ],
)
def test_what_the_runner_claims_is_read(event_type, credential, claim):
    assert accepted(wire(event_type, credential=credential)).claim == claim


def test_usage_by_unit_is_read():
    event = accepted(
        wire(
            BY_UNIT,
            usage={"output": 7, "input": 10, "cache_read": 4},
            conditions={"service_tier": "flex", "region": "us"},
            usage_status="partial",
            provider_request_id="req-1",
            provider_cost_usd="0.0125",
        )
    )
    assert event.usage == (("cache_read", 4), ("input", 10), ("output", 7))
    assert (event.input_tokens, event.cached_input_tokens, event.output_tokens) == (10, 4, 7)
    assert event.conditions == (("region", "us"), ("service_tier", "flex"))
    assert event.is_partial
    assert (event.provider_request_id, event.provider_cost_usd) == ("req-1", "0.0125")


def test_usage_by_unit_has_defaults():
    event = accepted(wire(BY_UNIT, usage={"web_search": 1}, usage_status="final"))
    assert event == accepted(wire(BY_UNIT, usage={"web_search": 1}, conditions={}, provider_request_id=None))
    assert (event.quantity, event.conditions, event.is_partial) == (0, (), False)
    assert (event.provider_request_id, event.provider_cost_usd) == (None, None)


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [
        ("usage", {}, "data.usage"),
        ("usage", [], "data.usage"),
        ("usage", {"input": -1}, "data.usage.input"),
        ("usage", {"input": 10**10 + 1}, "data.usage.input"),
        ("usage", {"input": 1.0}, "data.usage.input"),
        ("usage", {"input": "1"}, "data.usage.input"),
        ("usage", {"input": True}, "data.usage.input"),
        ("usage", {"input": None}, "data.usage.input"),
        ("usage", {"": 1}, "data.usage."),
        ("usage", {f"unit {number}": 1 for number in range(65)}, "data.usage"),
        ("conditions", {"region": 1}, "data.conditions.region"),
        ("conditions", {"region": ""}, "data.conditions.region"),
        ("conditions", ["batch"], "data.conditions"),
        ("conditions", {f"name {number}": "a" for number in range(65)}, "data.conditions"),
        ("usage_status", "cut", "data.usage_status"),
        ("provider_cost_usd", 0.5, "data.provider_cost_usd"),
        ("provider_cost_usd", "1e-3", "data.provider_cost_usd"),
        ("provider_cost_usd", "-1", "data.provider_cost_usd"),
        ("provider_request_id", 5, "data.provider_request_id"),
    ],
)
def test_usage_by_unit_that_is_wrong_is_refused_by_its_place(field, value, place):
    rejection = refused(wire(BY_UNIT, **{field: value}))
    assert rejection.reason is Reason.INVALID_EVENT
    assert rejection.detail.startswith(place)


@pytest.mark.parametrize("event_type", EVENT_TYPES[2:4])
def test_tools_and_workflows_have_no_claim(event_type):
    assert accepted(wire(event_type, credential={"source": "nonsense"})).claim is None


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_unknown_attributes_and_fields_are_ignored_whatever_they_hold(event_type):
    plain = accepted(wire(event_type))
    odd = wire(event_type, colour="red", nested={"a": [1, 10**40, None]}, text="\x00\ud800")
    odd |= {"subject": KEY, "datacontenttype": 5, "extension": [[]], "\ud800": 1, "": 2}
    assert accepted(odd) == plain


@pytest.mark.parametrize(
    ("event_type", "field"),
    [(event_type, "team_id") for event_type in EVENT_TYPES]
    + [(event_type, "run_id") for event_type in EVENT_TYPES[:3]]
    + [("usage.workflow_run.v1", "parent_run_id"), *((event_type, "credential") for event_type in EVENT_TYPES[:2])],
)
def test_null_is_as_good_as_absent_for_what_is_optional(event_type, field):
    assert accepted(wire(event_type, **{field: None})) == accepted(wire(event_type))


def test_a_team_and_a_run_are_read():
    event = accepted(wire(team_id=TEAM, run_id="run-9"))
    assert (event.team_id, event.run_id) == (TEAM, "run-9")


ID_FIELDS = [
    *((EVENT_TYPES[0], f"data.{name}") for name in ("org_id", "user_id", "team_id", "run_id")),
    *((EVENT_TYPES[0], f"data.{name}") for name in ("node", "provider", "model")),
    (EVENT_TYPES[1], "data.agent_id"),
    (EVENT_TYPES[2], "data.tool"),
    *((EVENT_TYPES[3], f"data.{name}") for name in ("workflow_id", "run_id", "parent_run_id")),
]
EVENT_ID_FIELDS = [(EVENT_TYPES[0], "id"), (EVENT_TYPES[0], "source")]


@pytest.mark.parametrize(
    ("event_type", "path", "limit"),
    [(*field, 128) for field in ID_FIELDS] + [(*field, 256) for field in EVENT_ID_FIELDS],
)
def test_an_id_may_have_so_many_bytes_and_no_more(event_type, path, limit):
    for longest in ("x" * limit, "é" * (limit // 2), "🔑" * (limit // 4), " ", "../" + "'" * 9, "{}"):
        accepted(with_field(wire(event_type), path, longest))
    for too_long in ("x" * (limit + 1), "é" * (limit // 2) + "x", "🔑" * (limit // 4) + "x", "x" * 100_000):
        rejection = refused(with_field(wire(event_type), path, too_long))
        assert rejection.reason is Reason.INVALID_EVENT
        assert rejection.detail.startswith(f"{path}: ")
        assert too_long not in rejection.detail


def test_the_id_of_a_claimed_credential_has_the_limits_of_an_id():
    assert accepted(wire(credential={"source": "byok", "credential_id": "x" * 128})).claim == Claim("x" * 128)
    rejection = refused(wire(credential={"source": "byok", "credential_id": "x" * 129}))
    assert rejection.detail.startswith("data.credential.credential_id: ")


# --- what is no event at all ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"   ",
        b"{",
        b"not json",
        b"\xef\xbb\xbf" + json.dumps(wire()).encode(),
        json.dumps(wire()).encode("utf-16"),
        json.dumps(wire()).encode()[:-1],
        json.dumps(wire()).encode() * 2,
        json.dumps(wire(calls=float("nan"))).encode(),
        b"[" * 50_000,
    ],
)
def test_a_record_that_cannot_be_read_is_malformed_json_and_one_event(value):
    assert refused(value).reason is Reason.MALFORMED_JSON


@pytest.mark.parametrize(
    "value", [b"null", b"true", b"1", b'"text"', b"[[]]", b"[null]", json.dumps([[wire()]]).encode()]
)
def test_what_is_no_object_is_an_invalid_event(value):
    assert refused(value)[:2] == (Reason.INVALID_EVENT, "an event must be a JSON object")


def test_an_empty_batch_is_one_invalid_event():
    assert refused(b"[]")[:2] == (Reason.INVALID_EVENT, "the batch has no events")


def test_a_batch_holds_up_to_1000_events():
    outcomes = read([wire() | {"id": f"event-{index}"} for index in range(1_000)])
    assert [outcome.source_index for outcome in outcomes] == list(range(1_000))
    assert [outcome.event.id for outcome in outcomes] == [f"event-{index}" for index in range(1_000)]


def test_a_batch_of_1001_is_refused_whole_and_counts_as_one_event():
    assert refused([wire()] * 1_001)[:2] == (
        Reason.BATCH_TOO_LARGE,
        "the batch has 1001 events, at most 1000 are allowed",
    )
    assert refused([None] * 1_001).reason is Reason.BATCH_TOO_LARGE


def test_one_bad_event_never_takes_its_neighbours_with_it():
    bad = [None, [], {}, wire(calls=0), wire() | {"type": "usage.sleep.v1"}, wire() | {"time": "2030-01-01T00:00:00Z"}]
    batch = [part for event in bad for part in (wire(), event)] + [wire()]
    outcomes = read(batch)
    assert [outcome.source_index for outcome in outcomes] == list(range(len(batch)))
    assert [isinstance(outcome, Accepted) for outcome in outcomes] == [index % 2 == 0 for index in range(len(batch))]
    assert {outcome.event for outcome in outcomes[::2]} == {accepted(wire())}
    assert [outcome.rejection.reason for outcome in outcomes[1::2]] == [
        *[Reason.INVALID_EVENT] * 4,
        Reason.UNSUPPORTED_TYPE,
        Reason.TIME_IN_FUTURE,
    ]


# --- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["usage.sleep.v1", "usage.node_call.v2", "USAGE.NODE_CALL.V1", "", " ", KEY, "\ud800"])
def test_a_type_that_is_not_metered_is_unsupported(name):
    rejection = refused(wire() | {"type": name})
    assert rejection[:2] == (Reason.UNSUPPORTED_TYPE, "type: is not an event type that is metered")


@pytest.mark.parametrize("value", [None, 1, True, ["usage.node_call.v1"], {}])
def test_a_type_that_is_no_string_is_invalid(value):
    assert refused(wire() | {"type": value})[:2] == (Reason.INVALID_EVENT, "type: must be a string")


def test_an_event_without_a_type_is_invalid():
    assert refused(with_field(wire(), "type", DROPPED))[:2] == (Reason.INVALID_EVENT, "type: must be a string")


# --- fields, one by one -----------------------------------------------------------------------------------------------

REQUIRED = {
    EVENT_TYPES[0]: ("node", "provider", "model"),
    EVENT_TYPES[1]: ("agent_id", "provider", "model", "input_tokens", "output_tokens"),
    EVENT_TYPES[2]: ("tool",),
    EVENT_TYPES[3]: ("workflow_id", "run_id"),
    EVENT_TYPES[4]: ("agent_id", "provider", "model", "usage"),
}


@pytest.mark.parametrize("value", [DROPPED, None])
@pytest.mark.parametrize(
    ("event_type", "path"),
    [
        (event_type, path)
        for event_type in EVENT_TYPES
        for path in (
            *("specversion", "id", "source", "time", "data", "data.org_id", "data.user_id"),
            *(f"data.{name}" for name in REQUIRED[event_type]),
        )
    ],
)
def test_every_required_field_is_missed_by_name(event_type, path, value):
    rejection = refused(with_field(wire(event_type), path, value))
    assert rejection.reason is Reason.INVALID_EVENT
    assert rejection.detail.startswith(f"{path}: ")
    assert ";" not in rejection.detail


BAD_IDS = ["", "\x00", "a\x00b", "line\nbreak", "\t", "\x7f", "a\x80", "\x9f", "\ud800", "a\udfff", 5, True, ["a"], {}]


@pytest.mark.parametrize("value", BAD_IDS)
@pytest.mark.parametrize(("event_type", "path"), ID_FIELDS + EVENT_ID_FIELDS)
def test_an_id_that_is_empty_no_string_or_has_control_characters_is_refused(event_type, path, value):
    rejection = refused(with_field(wire(event_type), path, value))
    assert rejection.reason is Reason.INVALID_EVENT
    assert rejection.detail.startswith(f"{path}: ")
    rejection.detail.encode()


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_what_stands_for_every_organization_is_none(event_type):
    rejection = refused(wire(event_type, org_id="*"))
    assert rejection[:2] == (Reason.INVALID_EVENT, "data.org_id: * stands for every organization; it is none")


COUNTS = [
    (EVENT_TYPES[0], "data.calls", 1, 10**6),
    (EVENT_TYPES[2], "data.calls", 1, 10**6),
    (EVENT_TYPES[1], "data.input_tokens", 0, 10**10),
    (EVENT_TYPES[1], "data.output_tokens", 0, 10**10),
]


@pytest.mark.parametrize(("event_type", "path", "least", "most"), COUNTS)
def test_a_count_may_be_as_small_and_as_large_as_the_contract_says(event_type, path, least, most):
    for value in (least, most):
        event = accepted(with_field(wire(event_type), path, value))
        assert getattr(event, path.removeprefix("data.")) == value
    for value in (least - 1, most + 1):
        assert refused(with_field(wire(event_type), path, value)).detail.startswith(f"{path}: ")


@pytest.mark.parametrize("value", [1.5, 1.0, "1", True, False, [1], {}, -1, 2**63, 2**64, -(2**64), 10**400, 1e300])
@pytest.mark.parametrize(
    ("event_type", "path"), [count[:2] for count in COUNTS] + [(EVENT_TYPES[1], "data.cached_input_tokens")]
)
def test_a_count_that_is_no_integer_in_range_is_refused(event_type, path, value):
    rejection = refused(with_field(wire(event_type), path, value))
    assert rejection.reason is Reason.INVALID_EVENT
    assert rejection.detail.startswith(f"{path}: ")


@pytest.mark.parametrize("text", ["1.0", "1e0", "1E3", "1e999999", "-0.0"])
def test_a_number_that_is_written_as_a_fraction_is_no_count(text):
    value = json.dumps(wire(calls="@")).replace('"@"', text).encode()
    assert refused(value).detail.startswith("data.calls: ")


@pytest.mark.parametrize("field", ["calls", "succeeded"])
def test_null_is_no_value_for_what_has_a_default_but_is_not_optional(field):
    assert refused(wire("usage.tool_call.v1", **{field: None})).detail.startswith(f"data.{field}: ")


@pytest.mark.parametrize("value", ["true", "yes", 1, 0, [], {}])
def test_succeeded_is_true_or_false(value):
    assert refused(wire("usage.tool_call.v1", succeeded=value)).detail.startswith("data.succeeded: ")


def test_cached_tokens_are_part_of_the_input():
    event_type = "usage.token_usage.v1"
    assert accepted(wire(event_type, cached_input_tokens=1_000)).cached_input_tokens == 1_000
    rejection = refused(wire(event_type, cached_input_tokens=1_001))
    assert rejection[:2] == (Reason.INVALID_EVENT, "data: cached_input_tokens must not exceed input_tokens")


@pytest.mark.parametrize("value", ["0.3", "1", "1.1", "", 1, 1.0, ["1.0"]])
def test_other_versions_of_cloudevents_are_refused(value):
    assert refused(wire() | {"specversion": value}).detail.startswith("specversion: ")


@pytest.mark.parametrize("value", ["text", 1, True, []])
def test_data_is_an_object(value):
    assert refused(wire() | {"data": value}).detail.startswith("data: ")


@pytest.mark.parametrize(
    "value",
    [
        *("byok", 1, [], {}, {"source": None}, {"source": 1}, {"source": []}, {"source": "BYOK"}, {"source": KEY}),
        *({"source": "byok"}, {"source": "byok", "credential_id": None}, {"source": "byok", "credential_id": ""}),
    ],
)
@pytest.mark.parametrize("event_type", EVENT_TYPES[:2])
def test_a_claim_that_is_none_is_refused(event_type, value):
    rejection = refused(wire(event_type, credential=value))
    assert rejection.reason is Reason.INVALID_EVENT
    assert rejection.detail.startswith("data.credential")
    assert KEY not in rejection.detail


# --- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-05-01T12:00:00Z", "2026-05-01T12:00:00"),
        ("2026-05-01t12:00:00z", "2026-05-01T12:00:00"),
        ("2026-05-01T14:00:00+02:00", "2026-05-01T12:00:00"),
        ("2026-05-01T06:30:00-05:30", "2026-05-01T12:00:00"),
        ("2026-05-01T12:00:00-00:00", "2026-05-01T12:00:00"),
        ("2026-05-01T12:00:00.5Z", "2026-05-01T12:00:00.500000"),
        ("2026-05-01T12:00:00.123456Z", "2026-05-01T12:00:00.123456"),
        # Kept with microseconds: further digits are cut off, so that none moves an event into the next interval.
        ("2026-05-01T12:00:00.1234567Z", "2026-05-01T12:00:00.123456"),
        ("2026-04-30T23:59:59.999999999999Z", "2026-04-30T23:59:59.999999"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00"),
        ("2000-01-01T00:00:00Z", "2000-01-01T00:00:00"),
        ("1999-12-31T23:59:59-00:01", "2000-01-01T00:00:59"),
        # A leap second is the second before: clocks have no number for it, and it belongs to the day that it ends.
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59"),
        ("2016-12-31T23:59:60.75Z", "2016-12-31T23:59:59.750000"),
        ("2017-01-01T05:29:60+05:30", "2016-12-31T23:59:59"),
    ],
)
def test_times_are_rfc_3339_and_kept_in_utc_with_microseconds(text, at):
    event = accepted(wire() | {"time": text})
    assert event.occurred_at == utc(at)
    assert event.occurred_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "now", "2026-05-01", "12:00:00Z", "2026-05-01T12:00:00", "2026-05-01T12:00Z", "2026-05-01T12Z"),
        *("2026-05-01 12:00:00Z", " 2026-05-01T12:00:00Z", "2026-05-01T12:00:00Z ", "2026-05-01T12:00:00Z\n"),
        *("2026-05-01T12:00:00,5Z", "2026-05-01T12:00:00.Z", "2026-05-01T12:00:00 Z", "2026-05-01T12:00:00+0200"),
        *("2026-05-01T12:00:00+02", "2026-05-01T12:00:00+24:00", "2026-05-01T12:00:00+02:60", "20260501T120000Z"),
        *("2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-04-31T00:00:00Z"),
        *(
            "2026-05-01T24:00:00Z",
            "2026-05-01T12:60:00Z",
            "2026-06-30T22:59:60Z",
            "2026-06-30T23:59:60+01:00",
            "2026-06-30T23:59:61Z",
            "2026-W18-5T12:00:00Z",
        ),
        *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"),
        *("1999-12-31T23:59:59.999999Z", "2000-01-01T00:00:00+00:01", "2101-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
        *("2100-12-31T23:59:59-00:01", "+2026-05-01T12:00:00Z", "-2026-05-01T12:00:00Z", "12026-05-01T12:00:00Z"),
        *("２０２６-05-01T12:00:00Z", "2026-05-01T12:00:00Z\x00", "\ud800"),
        *(1_777_636_800, 1_777_636_800.5, True, None, [], {}),
    ],
)
def test_other_times_are_refused_by_name_and_not_repeated(text):
    rejection = refused(wire() | {"time": text})
    assert rejection.reason is Reason.INVALID_EVENT
    assert rejection.detail.startswith("time: ")
    assert str(text) not in rejection.detail or str(text).strip() == ""


def test_the_last_instant_of_2100_is_a_time():
    last = "2100-12-31T23:59:59.999999Z"
    assert accepted(wire() | {"time": last}, utc(last)).occurred_at == utc(last)


@pytest.mark.parametrize(
    ("ahead", "fine"),
    [
        (timedelta(0), True),
        (timedelta(minutes=5), True),
        (timedelta(minutes=5, microseconds=1), False),
        (timedelta(days=365), False),
    ],
)
def test_a_time_may_be_five_minutes_ahead_to_the_microsecond(ahead, fine):
    event = wire() | {"time": (NOW + ahead).isoformat()}
    if fine:
        accepted(event)
    else:
        assert refused(event)[:2] == (Reason.TIME_IN_FUTURE, "time: is more than 5 minutes ahead")


# --- precedence, and what a detail may say ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (json.dumps([wire(calls=0)] * 1_001).encode()[:-1], Reason.MALFORMED_JSON),
        ([{"type": "usage.sleep.v1"}] * 1_001, Reason.BATCH_TOO_LARGE),
        ({"type": "usage.sleep.v1", "time": "2099-01-01T00:00:00Z"}, Reason.UNSUPPORTED_TYPE),
        (wire(calls=0) | {"time": "2099-01-01T00:00:00Z"}, Reason.INVALID_EVENT),
        (wire(model="unheard-of") | {"time": "2099-01-01T00:00:00Z"}, Reason.TIME_IN_FUTURE),
    ],
)
def test_of_several_reasons_the_first_in_the_order_of_the_contract_is_given(value, reason):
    assert refused(value).reason is reason


def test_every_field_that_is_wrong_is_named():
    detail = refused(wire(calls=0, model="") | {"specversion": "2"}).detail
    assert [part.partition(":")[0] for part in detail.split("; ")] == ["specversion", "data.model", "data.calls"]


def test_a_detail_has_an_end():
    assert len(refused(dict.fromkeys(("a", "b")) | {"type": EVENT_TYPES[1], "data": {}}).detail) <= 300


@pytest.mark.parametrize("event_type", EVENT_TYPES)
@pytest.mark.parametrize(
    "secret", [KEY, [KEY], {KEY: KEY}, KEY + "\x00", KEY * 20], ids=["text", "list", "object", "control", "long"]
)
def test_a_detail_never_repeats_what_a_field_held(event_type, secret):
    for path in ("specversion", "id", "source", "type", "time", "data", *(f"data.{n}" for n in REQUIRED[event_type])):
        for outcome in read(with_field(wire(event_type), path, secret)):
            if isinstance(outcome, Rejected):
                assert KEY not in outcome.rejection.detail
                assert "0123456789" not in outcome.rejection.detail
