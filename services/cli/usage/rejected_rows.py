"""Rows that were not sent: the first ones are kept to be shown, all of them can be written to a file."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import NamedTuple, TextIO

from services.messages.usage_events import Rejection

_SHOWN_MAX = 20
_FIELD = re.compile(r"[a-z_]+(\.[a-z_0-9]+)*")


class RejectedRow(NamedTuple):
    """One row that was not sent, and why: by code and words as a dead letter would say it."""

    line: int
    code: str
    field: str
    """Empty where the row as a whole is wrong."""
    problem: str

    @classmethod
    def of(cls, line: int, rejection: Rejection) -> RejectedRow:
        """``field: problem`` is the rejection's detail."""
        field = rejection.faults[0].field
        return cls(line, rejection.reason.value, field, rejection.detail.removeprefix(f"{field}: "))

    @classmethod
    def of_detail(cls, line: int, code: str, detail: str) -> RejectedRow:
        """What a dead letter says; its detail names the field where one is wrong."""
        field, colon, problem = detail.partition(": ")
        named = bool(colon) and _FIELD.fullmatch(field) is not None
        return cls(line, code, field if named else "", problem if named else detail)


class RejectedRows:
    """Counts rejected rows and keeps the first of them; writes every one to ``file`` as a line of JSON."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self.counts: Counter[str] = Counter()
        """How many there were, by reason."""
        self.shown: list[RejectedRow] = []

    def add(self, line: int, rejection: Rejection) -> None:
        """Take note of one."""
        self.add_row(RejectedRow.of(line, rejection))

    def add_row(self, row: RejectedRow) -> None:
        """The same, of what metering has refused."""
        self.counts[row.code] += 1
        if len(self.shown) < _SHOWN_MAX:
            self.shown.append(row)
        if self._file is not None:
            self._file.write(json.dumps(row._asdict(), ensure_ascii=False) + "\n")
