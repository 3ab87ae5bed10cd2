"""The chain of the audit log: what is hashed of a row, and whether rows follow from one another. Pure.

Each row's hash is SHA-256 over a label, the hash before it, and every field, each as its length in bytes of UTF-8, a
colon, the field and a comma; a dash and a comma where there is none. The database derives the same when it appends
(``migrations/versions/0002_audit.py``): two implementations, so that neither is its own witness.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from operator import attrgetter
from typing import NamedTuple

GENESIS = bytes(32)
"""What stands before the first row."""
_LABEL = b"byok audit v1"


class Link(NamedTuple):
    """One row of the audit log."""

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


WRITTEN = (
    *("actor", "actor_org", "client_address", "request_id", "reason", "action", "outcome", "code", "omitted"),
    *("org_id", "credential_id", "scope_type", "scope_id", "provider", "hint", "detail"),
)
"""What a row says, in the order in which it is hashed, for ever. Number, time and hashes are the database's."""
_said = attrgetter(*WRITTEN)


class BrokenChain(Exception):
    """The chain does not hold; ``seq`` is the first row that is not what was written."""

    def __init__(self, seq: int, what: str) -> None:
        """``what`` goes on after "row 7"."""
        super().__init__(f"row {seq} {what}")
        self.seq = seq
        self.what = what


def link_hash(link: Link) -> bytes:
    """What the row's hash must be, by its fields and ``prev_hash``; its own ``hash`` is not looked at."""
    said = (None if value is None else str(value) for value in _said(link))
    fields = (link.prev_hash.hex(), str(link.seq), _time(link.occurred_at), *said)
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
