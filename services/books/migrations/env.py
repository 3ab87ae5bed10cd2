"""Alembic's entry point."""

from services.runtime.migrations import run_environment

run_environment()
