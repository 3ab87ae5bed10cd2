"""Masks whatever has the shape of a provider's key, in text that people or other programs will see.

The shapes are those of FIELD's provider table: hints, never gates. A key needs 16 characters to be taken for one.
"""

from __future__ import annotations

import re

MASK = "[masked key]"

# A word that merely ends like a prefix, as "task-2026…" does, is no key; an escape or a percent code before it is
# no part of a word.
_START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=\\u[0-9A-Fa-f]{4})|(?<=%[0-9A-Fa-f]{2}))"
_SHAPES = (
    r"sk-[A-Za-z0-9_-]{13,}",
    r"AIza[A-Za-z0-9_-]{12,}",
    r"AQ\.[A-Za-z0-9_-]{13,}",
    r"xai-[A-Za-z0-9_-]{12,}",
    r"fw_[A-Za-z0-9_-]{13,}",
)
_PATTERN = f"{_START}(?:{'|'.join(_SHAPES)})"
_IN_TEXT = re.compile(_PATTERN)
_IN_BYTES = re.compile(_PATTERN.encode())


def mask_text(text: str) -> str:
    """``text`` with every key in it replaced by ``MASK``."""
    return _IN_TEXT.sub(MASK, text)


def mask_bytes(value: bytes) -> tuple[bytes, bool]:
    """``value`` with every key in it replaced by ``MASK``, and whether there was one."""
    masked, count = _IN_BYTES.subn(MASK.encode(), value)
    return masked, count > 0
