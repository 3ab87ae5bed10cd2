"""A credential while its caller changes it: in one transaction, with nobody else changing anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from sqlmodel import Session

from services.domain.permissions import Action, Caller
from services.key_registry.audit import trail as audit
from services.key_registry.audit.trail import Entry, Event
from services.key_registry.database import credentials as repository
from services.key_registry.database.tables import CredentialRow
from services.key_registry.handlers.registry import Registry
from services.key_registry.handlers.views import CredentialView, require, subject_of, view, visible
from services.key_registry.log.changes import credential_change
from services.key_registry.log.outbox import LogWriter


class Editing(NamedTuple):
    """What a change is made with. No key-encryption key is asked meanwhile: it may be a network away."""

    registry: Registry
    caller: Caller
    session: Session
    row: CredentialRow
    log: LogWriter

    def save(self) -> None:
        """Write the row, as what the next entity tag stands for."""
        self.row.revision += 1
        self.session.add(self.row)
        self.session.flush()

    def append_history(self) -> None:
        """Put the whole history of the credential into the log. Raises Refusal ``history_too_long``."""
        active = repository.intervals_of(self.session, [self.row])[self.row.credential_id]
        self.log.append(credential_change, repository.as_credential(self.row, active), self.row.hint)

    def view(self) -> CredentialView:
        """The credential as its caller sees it now."""
        return view(self.registry, self.session, self.row, self.caller, self.log.now)

    def note(self, event: Event, detail: Mapping[str, str | None] | None = None) -> None:
        """Write the row of the audit log: the last thing that is done."""
        audit.append(self.session, Entry(self.caller, event, subject_of(self.row), detail or {}))


@contextmanager
def editing(registry: Registry, caller: Caller, credential_id: str, *actions: Action) -> Iterator[Editing]:
    """Take the log, and commit at the end. Raises Refusal where the caller may not do all of ``actions``."""
    with registry.sessions.begin() as session:
        row = visible(session, caller, credential_id)
        require(caller, row, *actions)
        log = LogWriter(session)
        # Read again: somebody may have changed it while we waited for the log.
        session.refresh(row)
        yield Editing(registry, caller, session, row, log)
