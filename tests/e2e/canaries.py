"""Marked keys in the shapes of all six providers, and the search for any piece of them."""

from __future__ import annotations

import base64
import re
import secrets
import string
from collections.abc import Iterator
from typing import NamedTuple

SHAPES = {
    "openai": ("sk-proj-", 48),
    "anthropic": ("sk-ant-api03-", 90),
    "google": ("AIza", 35),
    "xai": ("xai-", 80),
    "deepseek": ("sk-", 32),
    "fireworks": ("fw_", 24),
}
"""By provider: how its keys begin, and how many random characters follow."""

PIECE = 8
# Every seventh character of a random part begins this mark, so each piece holds it whole, and a fast search finds it.
_MARK, _BETWEEN = "Qz", 5
# What becomes of it whatever stands around it, at each of the three places in a group of three bytes.
_MARK_IN_BASE64 = rb"UX|F6|Re"
_STANDARD_BASE64 = bytes.maketrans(b"-_", b"+/")
_LETTERS = string.ascii_letters + string.digits


class Found(NamedTuple):
    """A piece of a key where none may be."""

    sink: str
    provider: str
    place: str
    around: bytes


class Canaries:
    """The keys made so far, each with the place that it was put into."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[str, str]] = {}
        self._pieces: dict[bytes, str] = {}

    def key(self, provider: str, place: str) -> str:
        """A new key."""
        prefix, length = SHAPES[provider]
        random = "".join(_MARK + "".join(secrets.choice(_LETTERS) for _ in range(_BETWEEN)) for _ in range(length))
        random = random[:length]
        key = prefix + random
        self.keys[key] = (provider, place)
        for start in range(length - PIECE + 1):
            self._pieces[random[start : start + PIECE].encode()] = key
        return key

    @property
    def pieces(self) -> int:
        """How many pieces are looked for."""
        return len(self._pieces)

    def search(self, sink: str, content: bytes) -> Iterator[Found]:
        """Every piece in ``content``, plainly, as UTF-16, in hexadecimal digits or in base64."""
        yield from self._plain(sink, content)
        for wide in (content[::2], content[1::2]) if b"Q\x00z" in content else ():
            yield from self._plain(f"{sink} (UTF-16)", wide)
        for run in re.finditer(rb"(?:[0-9a-f]{2}){%d,}" % PIECE, content, re.IGNORECASE):
            if _MARK.encode().hex().encode() in run[0].lower():
                yield from self._plain(f"{sink} (hex)", bytes.fromhex(run[0].decode()))
                yield from self._plain(f"{sink} (hex)", bytes.fromhex(run[0][1:-1].decode()))
        for mark in re.finditer(_MARK_IN_BASE64, content):
            around = content[max(0, mark.start() - 40) : mark.end() + 40].translate(_STANDARD_BASE64)
            for run in re.findall(rb"[A-Za-z0-9+/]+", around):
                for skipped in range(4):
                    whole = (len(run) - skipped) // 4 * 4
                    yield from self._plain(f"{sink} (base64)", base64.b64decode(run[skipped : skipped + whole]))

    def _plain(self, sink: str, content: bytes) -> Iterator[Found]:
        for match in re.finditer(re.escape(_MARK.encode()), content):
            for start in range(max(0, match.start() - PIECE + len(_MARK)), match.start() + 1):
                key = self._pieces.get(content[start : start + PIECE])
                if key is not None:
                    yield Found(sink, *self.keys[key], content[max(0, start - 80) : start + 80])
                    break
