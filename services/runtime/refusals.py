"""How a use case says no, without a web framework; services/runtime/problems.py makes of it what HTTP answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any


class Refusal(Exception):
    """A use case was not carried out, and nothing was changed. The HTTP status of each code is the API's business."""

    def __init__(
        self,
        code: StrEnum,
        detail: str,
        *,
        field: str | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        retry_seconds: int | None = None,
    ) -> None:
        """``detail`` is one sentence for the caller; it holds nothing that the caller sent.

        ``field`` names the part of the request at fault, ``errors`` all of them where there may be several.
        ``retry_seconds`` is when to try again.
        """
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.field = field
        self.errors = errors or ([{"field": field, "detail": detail}] if field else [])
        self.retry_seconds = retry_seconds
