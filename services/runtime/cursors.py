"""Where a list goes on, as a text that nobody needs to read: JSON in base64url, without padding."""

from __future__ import annotations

import base64
import json
from typing import Any


def encode_cursor(place: Any) -> str:
    """``place`` is whatever JSON can hold."""
    return base64.urlsafe_b64encode(json.dumps(place, allow_nan=False).encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> Any:
    """What ``encode_cursor`` was given. Raises ValueError for a text that it never gave."""
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if encode_cursor(place) != cursor:
        raise ValueError("not as it would be written")
    return place
