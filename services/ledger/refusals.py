"""What the ledger refuses, without a web framework: the API makes it problem+json (docs/contract.md, section 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Refusal(Exception):
    """A use case says no: HTTP status, stable code, one sentence that echoes nothing, and fields of its own."""

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        """``more`` are extension members of the problem document."""
        super().__init__(f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = more


def not_found() -> Refusal:
    """The one answer for what is not there and for what the caller may not see: they must not be told apart."""
    return Refusal(404, "not_found", "There is no such entry, or this token may not see it.")
