"""How long tests wait for what must come."""

PATIENCE_SECONDS = 300.0
"""Longer than anything takes that happens at all: a slow machine is no fault, and only what hangs fails by it."""
