"""Writes the wire contracts for other languages, JSON Schema and AsyncAPI: ``python -m schemas.export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter

from schemas.dead_letters import DeadLetterHeaders
from schemas.rate_card import DOCUMENT
from schemas.registry_changes import REGISTRY_CHANGE
from schemas.topics import REGISTRY_CHANGES, TOPICS, USAGE_DEAD_LETTERS, USAGE_EVENTS, Topic
from schemas.usage_events import UsageEventOrBatch

COMMAND = "python -m schemas.export"
FOLDER = Path(__file__).parent
VERSION = "1.0.0"
"""The version of the wire contracts: the first number changes when an old reader could not read a new message."""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_KAFKA_BINDING = "0.5.0"


class Message(NamedTuple):
    """One exported schema: of a topic's values, or of its headers where the values are any bytes."""

    name: str
    title: str
    topic: Topic
    adapter: TypeAdapter[Any]
    mode: Literal["validation", "serialization"]
    """What a reader accepts of what others write; what we write is described as we write it."""
    part: Literal["payload", "headers"]


MESSAGES = (
    Message(
        "usage-events",
        "A usage event (CloudEvents 1.0, structured JSON), or a batch of them",
        USAGE_EVENTS,
        TypeAdapter(UsageEventOrBatch),
        "validation",
        "payload",
    ),
    Message(
        "registry-changes",
        "A registry change: the whole history of one credential or plan, one rate card, or a provider's model aliases",
        REGISTRY_CHANGES,
        REGISTRY_CHANGE,
        "serialization",
        "payload",
    ),
    Message(
        "dead-letter-headers",
        "The headers of a dead letter, each as UTF-8 text; the value is the refused event's bytes",
        USAGE_DEAD_LETTERS,
        TypeAdapter(DeadLetterHeaders),
        "validation",
        "headers",
    ),
)

_WRITER = {REGISTRY_CHANGES.name: "send", USAGE_EVENTS.name: "receive", USAGE_DEAD_LETTERS.name: "send"}


def json_schema(message: Message) -> dict[str, Any]:
    """The JSON Schema of one message, complete in itself."""
    return _document(message.name, message.title, message.adapter.json_schema(mode=message.mode))


def rate_card_schema() -> dict[str, Any]:
    """The JSON Schema of a rate card in a file, complete in itself; a change of the log carries the body of one."""
    title = "A rate card, as it is written in a file and published"
    return _document("rate-card", title, DOCUMENT.json_schema())


def _document(name: str, title: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"$schema": _DIALECT, "$id": f"urn:byok:schema:{name}", **_plain(schema), "title": title}


def asyncapi() -> dict[str, Any]:
    """Every topic with its settings and messages, as an AsyncAPI document."""
    schemas, definitions = TypeAdapter.json_schemas(
        [(message.name, message.mode, message.adapter) for message in MESSAGES],
        ref_template="#/components/schemas/{model}",
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "BYOK credit metering",
            "version": VERSION,
            "description": "The Kafka topics by which keys, plans, rate cards and usage become credit charges.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": {_operation_name(topic): _operation(topic) for topic in TOPICS},
        "components": {
            "messages": {message.name: _message(message, schemas[message.name, message.mode]) for message in MESSAGES},
            "schemas": _plain(definitions.get("$defs", {})),
        },
    }


def _channel(topic: Topic) -> dict[str, Any]:
    configuration: dict[str, Any] = {"cleanup.policy": topic.config["cleanup.policy"].split(",")}
    if "retention.ms" in topic.config:
        configuration["retention.ms"] = int(topic.config["retention.ms"])
    return {
        "address": topic.name,
        "description": f"{topic.description} Written by {topic.written_by}. Key: {topic.key}.",
        "messages": {m.name: {"$ref": f"#/components/messages/{m.name}"} for m in MESSAGES if m.topic is topic},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": configuration,
                "bindingVersion": _KAFKA_BINDING,
            }
        },
    }


def _operation_name(topic: Topic) -> str:
    return f"{_WRITER[topic.name]}-{topic.name.removeprefix('byok.')}"


def _operation(topic: Topic) -> dict[str, Any]:
    return {
        "action": _WRITER[topic.name],
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "summary": topic.description,
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{m.name}"} for m in MESSAGES if m.topic is topic],
    }


def _message(message: Message, schema: dict[str, Any]) -> dict[str, Any]:
    key = {"type": "string", "description": message.topic.key}
    # The bytes of a refused event may be anything: that is often why it was refused.
    payload = {} if message.part == "payload" else {"contentType": "application/octet-stream", "payload": True}
    return {
        "name": message.name,
        "title": message.title,
        **payload,
        message.part: _plain(schema),
        "bindings": {"kafka": {"key": key, "bindingVersion": _KAFKA_BINDING}},
    }


def _plain(schema: Any) -> Any:
    """Without ``discriminator``, which is OpenAPI's word: a constant in each alternative says the same."""
    if isinstance(schema, dict):
        return {
            name: _plain(value)
            for name, value in schema.items()
            if not (name == "discriminator" and isinstance(value, dict) and "propertyName" in value)
        }
    return [_plain(value) for value in schema] if isinstance(schema, list) else schema


def files() -> dict[Path, str]:
    """Every exported file with what stands in it."""
    documents = {FOLDER / "json" / f"{message.name}.schema.json": json_schema(message) for message in MESSAGES}
    documents[FOLDER / "json" / "rate-card.schema.json"] = rate_card_schema()
    documents[FOLDER / "asyncapi.json"] = asyncapi()
    return {path: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for path, document in documents.items()}


def main() -> None:
    """Write the files."""
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
