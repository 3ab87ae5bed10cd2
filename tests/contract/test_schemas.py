"""The exported contracts are those of the code, and every example of them reads everywhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder
from jsonschema import Draft202012Validator, FormatChecker

from schemas import export
from schemas.dead_letters import DeadLetterHeaders, Reason
from schemas.registry_changes import REGISTRY_CHANGE
from schemas.topics import BATCH_EVENTS_MAX, TOPICS
from schemas.usage_events import EVENT_MODELS, UsageEventOrBatch
from services.domain.directory import Credential, ModelAliases, PlanHistory
from services.domain.rate_card import RateCard
from services.messages.registry_changes import read_change, to_change
from services.messages.usage_events import Accepted, Rejected, read_record
from tests.factories import utc

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "schemas" / "examples"
NOW = utc("2026-12-01")


def examples(topic):
    return sorted((EXAMPLES / topic).glob("*.json"))


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def validator(name):
    schema = read_json(ROOT / "schemas" / "json" / f"{name}.schema.json")
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FormatChecker())


def by_name(path):
    return f"{path.parent.name}/{path.stem}"


# --- the exported files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(export.files()), ids=lambda path: path.name)
def test_exported_files_are_what_the_code_says(path):
    assert path.exists(), f"{path.relative_to(ROOT)} is missing: run `{export.COMMAND}`"
    is_current = path.read_text(encoding="utf-8") == export.files()[path]
    assert is_current, f"{path.relative_to(ROOT)} is not what the code says any more: run `{export.COMMAND}`"


def test_nothing_else_lies_among_the_exported_schemas():
    assert set((ROOT / "schemas" / "json").iterdir()) == {path for path in export.files() if path.parent.name == "json"}


def test_export_writes_its_files_where_they_are_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "FOLDER", tmp_path)
    export.main()
    assert {path: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.json")} == export.files()


@pytest.mark.parametrize("message", export.MESSAGES, ids=lambda message: message.name)
def test_every_schema_is_json_schema_2020_12(message):
    schema = export.json_schema(message)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)


def test_wheels_hold_the_schemas_and_the_examples():
    files = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    expected = list((ROOT / "schemas").rglob("*.json"))
    assert len(expected) >= 4 + 15
    assert {path.relative_to(ROOT).as_posix() for path in expected} <= files


# --- topics -----------------------------------------------------------------------------------------------------------

DAY_MS = 86_400_000
# docs/contract.md, section 1, line by line: partitions, cleanup policy, retention.
TABLE = {
    "byok.registry-changes": (1, "compact", None),
    "byok.usage-events": (12, "delete", 7 * DAY_MS),
    "byok.usage-dead-letters": (3, "delete", 30 * DAY_MS),
}


def test_the_topics_have_the_settings_of_the_contract():
    found = {
        topic.name: (
            topic.partitions,
            topic.config["cleanup.policy"],
            int(topic.config["retention.ms"]) if "retention.ms" in topic.config else None,
        )
        for topic in TOPICS
    }
    assert found == TABLE
    assert BATCH_EVENTS_MAX == 1_000


@pytest.fixture(scope="module")
def document():
    return read_json(ROOT / "schemas" / "asyncapi.json")


def test_every_topic_is_a_channel_with_its_settings(document):
    assert set(document["channels"]) == set(TABLE)
    for name, (partitions, cleanup, retention) in TABLE.items():
        channel = document["channels"][name]
        kafka = channel["bindings"]["kafka"]
        assert channel["address"] == kafka["topic"] == name
        assert kafka["partitions"] == partitions
        assert kafka["topicConfiguration"]["cleanup.policy"] == [cleanup]
        assert kafka["topicConfiguration"].get("retention.ms") == retention
        assert channel["messages"]


def test_every_message_names_its_record_key(document):
    keys = {
        name: message["bindings"]["kafka"]["key"]["description"]
        for name, message in document["components"]["messages"].items()
    }
    assert keys["usage-events"] == "org_id"
    assert all(f"{kind}:" in keys["registry-changes"] for kind in ("credential", "plan", "rate_card"))
    assert keys["dead-letter-headers"] == "as the original's"


def test_the_document_is_asyncapi_3_0(document):
    assert document["asyncapi"] == "3.0.0"
    assert set(document) == {"asyncapi", "info", "defaultContentType", "channels", "operations", "components"}
    assert {"title", "version"} <= set(document["info"])
    for channel in document["channels"].values():
        assert set(channel) <= {"address", "messages", "title", "summary", "description", "bindings"}
        assert all(set(reference) == {"$ref"} for reference in channel["messages"].values())
    for operation in document["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert set(operation["channel"]) == {"$ref"}
        prefix = operation["channel"]["$ref"] + "/messages/"
        assert operation["messages"]
        assert all(reference["$ref"].startswith(prefix) for reference in operation["messages"])
    assert {o["channel"]["$ref"] for o in document["operations"].values()} == {f"#/channels/{name}" for name in TABLE}
    for message in document["components"]["messages"].values():
        known = {"name", "title", "summary", "description", "contentType", "headers", "payload", "bindings"}
        assert set(message) <= known
        assert "payload" in message
    for section in document["components"].values():
        assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in section)


def test_every_reference_in_the_document_leads_somewhere(document):
    def references(part):
        if isinstance(part, dict):
            yield from ([part["$ref"]] if isinstance(part.get("$ref"), str) else [])
            for value in part.values():
                yield from references(value)
        elif isinstance(part, list):
            for value in part:
                yield from references(value)

    found = set(references(document))
    assert len(found) > 15
    for reference in found:
        place = document
        assert reference.startswith("#/")
        for name in reference[2:].split("/"):
            place = place[name]


@pytest.mark.parametrize("name", ["NodeCall", "TokenUsage", "CredentialChange", "PlanChange", "RateCardChange"])
def test_the_schemas_of_the_document_are_schemas(document, name):
    Draft202012Validator.check_schema(document["components"]["schemas"][name])
    assert document["components"]["schemas"][name]["type"] == "object"


# --- examples ---------------------------------------------------------------------------------------------------------


def test_there_are_examples_of_everything_that_is_written():
    usage = [event for path in examples("byok.usage-events") for event in _events(read_json(path))]
    assert {event["type"] for event in usage} == set(EVENT_MODELS)
    assert {(event["data"].get("credential") or {}).get("source") for event in usage} == {None, "byok", "platform"}
    changes = [read_json(path) for path in examples("byok.registry-changes")]
    assert {change["kind"] for change in changes} == {"credential", "plan", "rate_card", "model_aliases"}
    assert any(c["kind"] == "credential" and c["active"][-1]["to"] for c in changes)
    assert len(examples("byok.usage-dead-letters")) >= 2
    assert {folder.name for folder in EXAMPLES.iterdir()} == set(TABLE)


def _events(value):
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("path", examples("byok.usage-events"), ids=by_name)
def test_examples_of_usage_read_everywhere(path):
    value = read_json(path)
    validator("usage-events").validate(value)
    UsageEventOrBatch.model_validate(value)
    outcomes = read_record(path.read_bytes(), NOW)
    assert len(outcomes) == len(_events(value))
    for outcome, written in zip(outcomes, _events(value), strict=True):
        assert isinstance(outcome, Accepted), outcome
        assert outcome.event.identity == (written["data"]["org_id"], written["source"], written["id"])
        assert outcome.event.occurred_at == utc(written["time"])


@pytest.mark.parametrize("path", examples("byok.registry-changes"), ids=by_name)
def test_examples_of_registry_changes_read_everywhere(path):
    value = read_json(path)
    validator("registry-changes").validate(value)
    message = read_change(path.read_bytes())
    assert isinstance(to_change(message), Credential | ModelAliases | PlanHistory | RateCard)
    # Written again it is the same: nothing is lost, and nothing is added.
    assert json.loads(REGISTRY_CHANGE.dump_json(message)) == value
    assert message.key.partition(":")[0] == value["kind"]


@pytest.mark.parametrize("path", examples("byok.usage-dead-letters"), ids=by_name)
def test_examples_of_dead_letters_read_everywhere_and_would_be_refused_again(path):
    value = read_json(path)
    assert set(value) == {"key", "headers", "value"}
    validator("dead-letter-headers").validate(value["headers"])
    headers = DeadLetterHeaders.model_validate(value["headers"])
    written = headers.model_dump(mode="json", exclude_none=True)
    assert {name: str(text) for name, text in written.items()} == value["headers"]
    (outcome,) = read_record(value["value"].encode(), NOW)
    assert isinstance(outcome, Rejected)
    assert outcome.rejection[:2] == (headers.reason, headers.detail)
    assert (headers.masked == "true") == ("[masked key]" in value["value"])


# --- what the schemas refuse ------------------------------------------------------------------------------------------

EVENT = read_json(EXAMPLES / "byok.usage-events" / "node_call.json")


def _with(**changes):
    data = {**EVENT["data"], **changes.pop("data", {})}
    return {**EVENT, "data": data, **changes}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        [EVENT] * 1_001,
        [[EVENT]],
        _with(type="usage.sleep.v1"),
        _with(specversion="0.3"),
        _with(id=""),
        _with(id="x" * 257),
        _with(time=5),
        _with(data={"calls": 0}),
        _with(data={"calls": 10**6 + 1}),
        _with(data={"calls": "1"}),
        _with(data={"user_id": "a\u0000"}),
        _with(data={"org_id": "x" * 129}),
        _with(data={"credential": {"source": "byok"}}),
        _with(data={"credential": {"source": "mine"}}),
        {name: value for name, value in EVENT.items() if name != "source"},
    ],
)
def test_what_the_schema_refuses_is_refused_by_metering_too(value):
    assert not validator("usage-events").is_valid(value)
    assert not any(isinstance(outcome, Accepted) for outcome in read_record(json.dumps(value).encode(), NOW))


def test_a_full_batch_and_unknown_fields_are_in_order():
    odd = _with(data={"colour": "red", "team_id": None}, subject="x", extension=[1])
    assert validator("usage-events").is_valid([odd] * 1_000)


def test_the_reasons_are_those_of_the_contract_in_its_order():
    order = "malformed_json batch_too_large unsupported_type invalid_event time_in_future no_rate_card unpriced_model "
    order += "unpriced_unit unpriced_condition identity_conflict"
    assert [reason.value for reason in Reason] == order.split()


# --- docs/contract.md, section 2, the three messages as they stand there ----------------------------------------------

SECTION_2: list[dict[str, Any]] = [
    {
        "seq": 42,
        "kind": "credential",
        "changed_at": "2026-05-01T00:00:00Z",
        "credential_id": "key-1",
        "org_id": "acme",
        "scope": {"type": "organization", "id": "acme"},
        "provider": "openai",
        "hint": "…abcd",
        "active": [{"from": "2026-05-01T00:00:00Z", "to": None}],
    },
    {
        "seq": 43,
        "kind": "plan",
        "changed_at": "2026-05-01T00:00:00Z",
        "org_id": "acme",
        "plans": [{"plan": "enterprise", "from": "2026-05-01T00:00:00Z", "to": None}],
    },
    {
        "seq": 44,
        "kind": "rate_card",
        "changed_at": "2026-05-01T00:00:00Z",
        "card": "2026-04-27",
        "effective_from": "2026-04-27T00:00:00Z",
        "body": {"…": "yours"},
    },
]


@pytest.mark.parametrize(
    ("value", "key"), zip(SECTION_2, ["credential:key-1", "plan:acme", "rate_card:2026-04-27"], strict=True)
)
def test_the_messages_of_the_contract_read_and_are_written_as_they_stand_there(value, key):
    validator("registry-changes").validate(value)
    message = read_change(json.dumps(value).encode())
    assert message.key == key
    assert json.loads(REGISTRY_CHANGE.dump_json(message)) == value


@pytest.mark.parametrize("level", ["organization", "team", "personal"])
def test_every_level_of_the_contract_reads(level):
    value = {**SECTION_2[0], "scope": {"type": level, "id": "x"}}
    change: Any = to_change(read_change(json.dumps(value).encode()))
    assert change.scope == (level, "x")


@pytest.mark.parametrize("plan", ["free", "pro", "enterprise"])
def test_every_plan_of_the_contract_reads(plan):
    value = {**SECTION_2[1], "plans": [{**SECTION_2[1]["plans"][0], "plan": plan}]}
    change: Any = to_change(read_change(json.dumps(value).encode()))
    assert change.plans[0].plan == plan
