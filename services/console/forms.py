"""What a form brings along: fields by their names, the last value of each."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request

FORM_BYTES_MAX = 64 * 1024
_FIELDS_MAX = 100


async def posted(request: Request) -> Mapping[str, str]:
    """The fields that were sent, each without space around it; none where it is no form, or has too many.

    Printed they tell nothing: one of them may be a key.
    """
    text = (await request.body()).decode("utf-8", "replace")
    if len(text) > FORM_BYTES_MAX or text.count("&") >= _FIELDS_MAX:
        return {}
    return _Fields({name: value.strip() for name, value in parse_qsl(text, keep_blank_values=True)})


class _Fields(dict[str, str]):
    def __repr__(self) -> str:
        return f"<a form of {len(self)} fields>"
