"""The meter: what a runner makes once in each process."""

from __future__ import annotations

import logging
from typing import Any

from byok_sdk.acts import RunEvents
from byok_sdk.emitter import Emitter
from byok_sdk.errors import ByokError
from byok_sdk.events import Whose, utc_now
from byok_sdk.leases import LeaseKey
from byok_sdk.metrics import Shown, prometheus_text
from byok_sdk.observed import Tags, whose_of
from byok_sdk.observer import Observer
from byok_sdk.runs import Run
from byok_sdk.settings import Settings
from byok_sdk.spool import Counts
from byok_sdk.sync_leases import Leases

_log = logging.getLogger("byok_sdk")


class Meter:
    """Leases keys and records usage. Any thread may use it, and a process may fork."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is opened and nobody is asked before the first use."""
        self._settings = settings
        self._emitter = Emitter(settings)
        self._leases = Leases(settings)
        self.observer = Observer(self._emitter.record, settings.source)
        """Records what hooks tell of (``byok_sdk.hooks``)."""

    @classmethod
    def from_env(cls, **given: Any) -> Meter:
        """A meter by the environment (see ``Settings.from_env``); what is ``given`` goes first."""
        return cls(Settings.from_env(**given))

    def run(self, *, org: str, user: str, team: str | None = None, run_id: str | None = None) -> Run:
        """What is done for ``user`` of ``org``, in a team or in the personal space.

        A run that is carried out again under its ``run_id`` charges nothing twice. Without one an act is known by the
        id of the provider's answer.
        """
        events = RunEvents(Whose(org, user, team, run_id), self._settings.source, utc_now)
        return Run(events, self._emitter, self._leases)

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until the ledger has, or has refused, all that this process recorded; whether it did in time."""
        return self.observer.aside.settle(timeout) and self._emitter.flush(timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Send what waits for a while, and end; whether all was sent. The rest stays on disk, and is sent later."""
        self.observer.aside.end(self._settings.exit_seconds if timeout is None else timeout)
        self._leases.close()
        return self._emitter.close(timeout)

    def key_rejected(self, tags: Tags, provider: str, detail: str) -> None:
        """A provider does not take the key that ``tags`` name: report it and drop its lease. Asks the registry."""
        credential = tags.get("byok_credential")
        if credential is None:
            return
        try:
            whose = whose_of(tags)
            key = LeaseKey(whose.org_id, whose.user_id, whose.team_id, provider)
            self._leases.rejected(key, credential, detail)
        except ByokError as error:
            _log.warning("a report on a key was not made: %s", error)

    def counts(self) -> Counts:
        """What became of the events: accepted = acknowledged + rejected + waiting."""
        return self._emitter.counts()

    def metrics(self) -> str:
        """The counts, and what is wrong if anything is, in Prometheus' text format."""
        return prometheus_text(self.shown())

    def shown(self) -> Shown:
        """The same, for ``byok_sdk.metrics.collector``."""
        return Shown(self.counts(), self._emitter.trouble, self._leases.trouble, self.observer.not_recorded)

    def __enter__(self) -> Meter:
        """The meter itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()
