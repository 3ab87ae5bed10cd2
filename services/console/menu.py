"""The menu of every page, in its order. A page belongs to the entry whose path its own begins with."""

from __future__ import annotations

MENU: tuple[tuple[str, str], ...] = (
    ("Credentials", "/credentials"),
    ("Savings", "/savings"),
    ("Usage", "/usage"),
    ("What if", "/what-if"),
    ("Statement", "/statement"),
    ("Models", "/models"),
)
"""Label and path."""
