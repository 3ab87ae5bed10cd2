"""Waits for the places of what was booked before somebody asks: who has seen an entry finds it in sums, too."""

from __future__ import annotations

from time import monotonic, sleep

from sqlalchemy import Engine, text

_LOOK_SECONDS = 0.025
_SECONDS_MAX = 0.5
# Where places are late nobody waits: nothing says that they come within the moment that somebody can be kept.
_WAITING = text("SELECT max(batch) FROM ledger.entry_batch HAVING min(booked_at) > clock_timestamp() - interval '2 s'")
_STILL_WAITS = text("SELECT EXISTS (SELECT FROM ledger.entry_batch WHERE batch <= :batch)")


def settle(engine: Engine) -> None:
    """Return once the entries that are committed now have their places; after half a second in any case."""
    until = monotonic() + _SECONDS_MAX
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        batch = connection.execute(_WAITING).scalar()
        if batch is None:
            return
        while connection.execute(_STILL_WAITS, {"batch": batch}).scalar_one() and monotonic() < until:
            sleep(_LOOK_SECONDS)
