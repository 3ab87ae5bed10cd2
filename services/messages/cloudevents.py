"""CloudEvents' content modes: whichever a producer uses, it is one JSON document from here on.

In structured mode the value is the event, in batched mode an array of them. In binary mode the attributes are headers
and the value is ``data``: it is put together as structured mode would have sent it, so that identity, payload and every
check are the same (the bindings of CloudEvents 1.0.2 for Kafka, 3.2, and for HTTP, 3.1).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote_to_bytes

from services.messages.json_bytes import MalformedJsonError, decode, is_batch

STRUCTURED, BATCHED = "application/cloudevents+json", "application/cloudevents-batch+json"
CONTENT_TYPE = "content-type"
_ANY_MODE_BUT_BINARY = "application/cloudevents"
_KAFKA, _HTTP = "ce_", "ce-"
# What else is called so is no attribute, and ``data`` is the value.
_ATTRIBUTE = re.compile("(?!data$|data_base64$)[a-z0-9]{1,20}")


def saying_type(value: bytes) -> tuple[str, bytes]:
    """The header by which a record with this value says what it is."""
    return CONTENT_TYPE, (BATCHED if is_batch(value) else STRUCTURED).encode()


def of_record(value: bytes | None, headers: Iterable[tuple[str, bytes | None]] | None) -> bytes | None:
    """What a Kafka record holds, as JSON; of one in binary mode too. What is no JSON stays as it is."""
    if not headers:
        return value
    said = {name.lower(): (text or b"").decode(errors="surrogateescape") for name, text in headers}
    attributes = _attributes(said, _KAFKA)
    return value if not attributes or _is_whole(said) else _structured(attributes, value or b"")


def is_binary(headers: Mapping[str, str]) -> bool:
    """Whether the request, by its headers in lower case, has its attributes there."""
    return not _is_whole(headers) and any(name.startswith(_HTTP) for name in headers)


def of_request(body: bytes, headers: Mapping[str, str]) -> bytes:
    """What a request holds, as JSON. Header values are percent-encoded UTF-8."""
    if not is_binary(headers):
        return body
    attributes = _attributes(headers, _HTTP)
    decoded = {
        name: unquote_to_bytes(text.encode("latin-1", "replace")).decode(errors="surrogateescape")
        for name, text in attributes.items()
    }
    return _structured(decoded, body)


def _is_whole(headers: Mapping[str, str]) -> bool:
    return headers.get(CONTENT_TYPE, "").strip().lower().startswith(_ANY_MODE_BUT_BINARY)


def _attributes(headers: Mapping[str, str], prefix: str) -> dict[str, str]:
    names = (name for name in headers if name.startswith(prefix))
    return {name.removeprefix(prefix): headers[name] for name in names if _ATTRIBUTE.fullmatch(name, len(prefix))}


def _structured(attributes: Mapping[str, str], data: bytes) -> bytes:
    # Read by itself first: what is one value here stays one value inside, and can say nothing of the attributes.
    try:
        decode(data)
    except MalformedJsonError:
        if data:
            return data
        return json.dumps(attributes).encode()
    envelope = json.dumps(attributes).encode()
    return envelope[:-1] + (b", " if attributes else b"") + b'"data": ' + data + b"}"
