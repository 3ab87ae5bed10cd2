"""Masks whatever has the shape of a provider's key, in text that people or other programs will see.

The shapes are those of FIELD's provider table: hints, never gates. A key needs 16 characters to be taken for one.
"""

from __future__ import annotations

import re

MASK = "[masked key]"

# A word that merely ends like a prefix, as "task-2026…" does, is no key; an escape or a percent code before it is
# no part of a word.
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=\\u[0-9A-Fa-f]{4})|(?<=%[0-9A-Fa-f]{2}))"
_SHAPES = {
    "sk-": r"[A-Za-z0-9_-]{13,}",
    "AIza": r"[A-Za-z0-9_-]{12,}",
    "AQ.": r"[A-Za-z0-9_-]{13,}",
    "xai-": r"[A-Za-z0-9_-]{12,}",
    "fw_": r"[A-Za-z0-9_-]{13,}",
}
_PATTERN = f"{_START}(?:{'|'.join(re.escape(beginning) + rest for beginning, rest in _SHAPES.items())})"
_IN_TEXT = re.compile(_PATTERN)
_IN_BYTES = re.compile(_PATTERN.encode())
# Looked for first: nearly all there is to look through has none of them, and this is a hundred times faster.
_BEGINNINGS = tuple(beginning.encode() for beginning in _SHAPES)
_DISGUISES = (b"\\u", b"\x00")
# One character as it may stand in JSON, in UTF-8 or in UTF-16: escaped, with zero bytes around it, or plainly.
_CHARACTER = re.compile(rb"\\u([0-9A-Fa-f]{4})|\x00+|(.)", re.DOTALL)


def mask_text(text: str) -> str:
    """``text`` with every key in it replaced by ``MASK``."""
    return _IN_TEXT.sub(MASK, text)


def mask_bytes(value: bytes) -> tuple[bytes, bool]:
    """``value`` with every key in it replaced by ``MASK``, and whether there was one.

    A key is also found where its characters are escaped as JSON allows, or two bytes wide as in UTF-16.
    """
    masked, count = value, 0
    if any(beginning in value for beginning in _BEGINNINGS):
        masked, count = _IN_BYTES.subn(MASK.encode(), value)
    if any(disguise in masked for disguise in _DISGUISES):
        masked, disguised = _mask_disguised(masked)
        count += disguised
    return masked, count > 0


def _mask_disguised(value: bytes) -> tuple[bytes, int]:
    plain, places = bytearray(), []
    for match in _CHARACTER.finditer(value):
        code = int(match[1], 16) if match[1] else match[2][0] if match[2] else None
        if code is not None:
            # What is beyond ASCII is no part of a key, and separates.
            plain.append(code if code < 0x80 else 0x80)
            places.append(match.span())
    parts, end, count = [], 0, 0
    for found in _IN_BYTES.finditer(bytes(plain)):
        start = places[found.start()][0]
        parts += [value[end:start], MASK.encode()]
        end, count = places[found.end() - 1][1], count + 1
    return b"".join([*parts, value[end:]]), count
