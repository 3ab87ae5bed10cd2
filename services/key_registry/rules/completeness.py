"""Whether the registry's database holds every change that is known elsewhere. Until then it is not changed.

A database that was restored from a backup, or a standby that had not received the last changes when it took over, would
give their numbers to other changes: two histories, and no worker could price with either. A lease on what it says could
hand out a key that was ended since, which is worse than none. So a registry that is found to be behind neither changes
nor leases anything. One of which nobody could find out yet, for the broker does not answer, only changes nothing: that
is nearly always a registry that was started again, and whoever cannot lease pays the platform's price.
"""

from __future__ import annotations


class LogBehindError(Exception):
    """Others have a change that this database lacks, or has otherwise; the message says who, which, and what to do."""


class LogUnconfirmedError(Exception):
    """Nobody could be asked yet whether this database lacks a change."""


class Completeness:
    """What is known of it in this process. Safe to use across threads: what is kept is replaced as a whole."""

    def __init__(self) -> None:
        self._refusal: LogBehindError | LogUnconfirmedError | None = LogUnconfirmedError()

    def confirm(self) -> None:
        """It was compared, and lacks nothing."""
        self._refusal = None

    def presume(self) -> None:
        """Nothing was ever sent from it, so nobody can know more, unless that was found out."""
        if isinstance(self._refusal, LogUnconfirmedError):
            self._refusal = None

    def doubt(self) -> None:
        """The database was away: it may be another one now."""
        if self._refusal is None:
            self._refusal = LogUnconfirmedError()

    def deny(self, why: LogBehindError) -> None:
        """It was compared, and is behind."""
        self._refusal = why

    @property
    def is_confirmed(self) -> bool:
        """Whether changes are accepted."""
        return self._refusal is None

    def require_for_change(self) -> None:
        """Raise LogBehindError or LogUnconfirmedError where nothing may be changed."""
        if self._refusal is not None:
            raise self._refusal

    def require_for_lease(self) -> None:
        """Raise LogBehindError where nothing may be leased."""
        if isinstance(self._refusal, LogBehindError):
            raise self._refusal

    def unready(self) -> str | None:
        """For /readyz: that it is behind."""
        return str(self._refusal) if isinstance(self._refusal, LogBehindError) else None
