"""The chain of the audit log: what is hashed of a row, and whether rows follow from one another. Pure.

Each row's hash is SHA-256 over a label, the hash before it, and every field, each as its length in bytes of UTF-8, a
colon, the field and a comma; a dash and a comma where there is none. The database derives the same when it appends
(``migrations/versions/0002_audit.py``): two implementations, so that neither is its own witness.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

GENESIS = bytes(32)
"""What stands before the first row."""
_LABEL = b"byok audit v1"


class Link(NamedTuple):
    """One row of the audit log, in the order of its columns, which is the order in which they are hashed."""

    seq: int
    occurred_at: datetime
    actor: str
    actor_org: str
    client_address: str | None
    request_id: str | None
    reason: str | None
    action: str
    outcome: str
    code: str | None
    omitted: int
    org_id: str | None
    credential_id: str | None
    scope_type: str | None
    scope_id: str | None
    provider: str | None
    hint: str | None
    detail: str | None
    prev_hash: bytes
    hash: bytes


class BrokenChain(Exception):
    """The chain does not hold; ``seq`` is the first row that is not what was written."""

    def __init__(self, seq: int, what: str) -> None:
        """``what`` goes on after "row 7"."""
        super().__init__(f"row {seq} {what}")
        self.seq = seq
        self.what = what


def link_hash(link: Link) -> bytes:
    """What the row's hash must be, by its fields and ``prev_hash``; its own ``hash`` is not looked at."""
    fields = (
        link.prev_hash.hex(),
        str(link.seq),
        _time(link.occurred_at),
        *link[2:10],
        str(link.omitted),
        *link[11:18],
    )
    return hashlib.sha256(_LABEL + b"".join(_field(field) for field in fields)).digest()


def checked(links: Iterable[Link]) -> Iterator[Link]:
    """The rows as they are, from the first one on. Raises BrokenChain at the first that does not follow."""
    before, head = 0, GENESIS
    for link in links:
        if link.seq != before + 1:
            raise BrokenChain(before + 1, f"is missing: row {link.seq} comes after row {before}")
        if link.prev_hash != head:
            raise BrokenChain(
                link.seq, "does not follow from the row before it: one of the two is not what was written"
            )
        if link.hash != link_hash(link):
            raise BrokenChain(link.seq, "was changed: its hash is not that of its fields")
        yield link
        before, head = link.seq, link.hash


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _field(value: str | None) -> bytes:
    if value is None:
        return b"-,"
    encoded = value.encode()
    return b"%d:%s," % (len(encoded), encoded)
