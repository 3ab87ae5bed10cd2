"""Bringing a database that lost changes up to the history that the ledger keeps of them (docs/adr/0025).

The log gets the same numbers and bytes. Plans, rate cards and credentials are made from it, as far as it says: labels
and secrets are not in it. A credential whose key can be the one in use no more is *lost*: it goes on to apply, because
the log says so and events are priced by it, and is not leased. What the log has ended meanwhile is deleted here, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from sqlalchemy import insert, text
from sqlmodel import Session, col, select, update

from schemas.registry_changes import CredentialChange, ModelAliasesChange, PlanChange, RateCardChange, RegistryChange
from services.books.registry_log import Recorded, RegistryForkedError
from services.domain.directory import Credential, ModelAliases, PlanHistory
from services.domain.permissions import CREDENTIALS_WRITE, EVERY_ORGANIZATION, Caller
from services.domain.scope import Interval
from services.key_registry.audit import trail as audit
from services.key_registry.audit.trail import Entry, Event, Subject
from services.key_registry.database import credentials as repository
from services.key_registry.database import secrets as secret_rows
from services.key_registry.database.sessions import Sessions
from services.key_registry.database.tables import (
    CredentialInterval,
    CredentialRow,
    LogEntry,
    LogHead,
    RateCardRow,
    Slot,
)
from services.key_registry.handlers.credentials import end_credential
from services.key_registry.handlers.models import save_aliases
from services.key_registry.handlers.views import subject_of
from services.key_registry.log.outbox import LogWriter
from services.messages.registry_changes import read_change, to_change

OPERATOR = Caller("byok registry rebuild", EVERY_ORGANIZATION, None, {}, frozenset({CREDENTIALS_WRITE}))
"""Who did it, as the audit log says."""

_TOGETHER = 500
# Nobody can change anything meanwhile anyway, and half of it is worth nothing.
_UNLIMITED = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
_NOBODY = "unknown"

Report = Callable[[int, int], None]


class Rebuilt(NamedTuple):
    """What was brought back, or would be."""

    changes: int = 0
    """How many changes were missing."""
    last_seq: int = 0
    """With which the log ends now."""
    holes: int = 0
    """How many numbers neither has: states of a subject that the topic had compacted before they were read."""
    plans: int = 0
    rate_cards: int = 0
    model_aliases: int = 0
    """Providers whose models' other names were brought back."""
    credentials: int = 0
    added: int = 0
    """Those of the credentials that were not there at all."""
    ended: int = 0
    """Those that the log has ended; what there was of their secrets is destroyed."""
    newly_lost: int = 0
    lost: tuple[str, ...] = ()
    """The credentials that are lost now, also from before."""


def rebuild(sessions: Sessions, history: Sequence[Recorded], *, dry_run: bool, report: Report) -> Rebuilt:
    """Bring the database up to ``history``, in one transaction; with ``dry_run`` nothing is changed.

    ``report`` hears how many subjects are done, and of how many. Raises RegistryForkedError, UnreadableChangeError.
    """
    with sessions() as session:
        rebuilt = _rebuild(session, history, report)
        # What is not committed is rolled back.
        if not dry_run:
            session.commit()
    return rebuilt


def end_lost(sessions: Sessions, report: Report) -> int:
    """End every credential that is lost, one after the other, as its owner's DELETE would; how many there were."""
    with sessions.begin() as session:
        lost = repository.lost_credentials(session)
    for done, credential_id in enumerate(lost, start=1):
        with sessions.begin() as session:
            row = session.get_one(CredentialRow, credential_id)
            log = LogWriter(session)
            session.refresh(row)
            if row.deleted_at is None:
                end_credential(session, log, row, OPERATOR)
        report(done, len(lost))
    return len(lost)


def _rebuild(session: Session, history: Sequence[Recorded], report: Report) -> Rebuilt:
    session.execute(text(_UNLIMITED))
    # Whoever changes anything takes this first.
    last_seq = session.exec(select(LogHead.last_seq).with_for_update()).one()
    ours = {seq: bytes(payload) for seq, payload in session.exec(select(LogEntry.seq, LogEntry.payload))}
    for change in history:
        if ours.get(change.seq, change.payload) != change.payload:
            raise RegistryForkedError(
                f"change {change.seq} is another one in the ledger than in the registry's database"
            )
    missing = [change for change in history if change.seq not in ours]
    known = {seq: read_change(payload) for seq, payload in (ours | {c.seq: c.payload for c in missing}).items()}
    newest = max(known, default=0)
    if missing:
        _append(session, missing, known)
    if newest > last_seq:
        session.execute(update(LogHead).values(last_seq=newest, last_at=known[newest].changed_at))
    subjects = _Subjects(known, {change.seq for change in missing})
    holes = set(range(1, newest)) - known.keys()
    first = min(subjects.missing, default=0)
    plans, cards = _plans_and_cards(session, subjects)
    credentials = _Credentials(session, subjects, unsure=any(hole > first for hole in holes))
    credentials.bring_back(report)
    rebuilt = Rebuilt(
        changes=len(missing),
        last_seq=newest,
        holes=len(holes),
        plans=plans,
        rate_cards=cards,
        model_aliases=len(subjects.aliases),
        credentials=len(subjects.credentials),
        added=credentials.added,
        ended=credentials.ended,
        newly_lost=len(credentials.lost),
        lost=tuple(repository.lost_credentials(session)),
    )
    if missing:
        _tell(session, rebuilt, credentials.lost)
    return rebuilt


def _tell(session: Session, rebuilt: Rebuilt, lost: Iterable[CredentialRow]) -> None:
    detail = {name: str(getattr(rebuilt, name)) for name in ("changes", "last_seq", "holes", "ended", "newly_lost")}
    rows = [Entry(OPERATOR, Event.REBUILD, Subject(None), detail)]
    rows += [Entry(OPERATOR, Event.LOSE, subject_of(row)) for row in lost]
    for start in range(0, len(rows), _TOGETHER):
        audit.append(session, *rows[start : start + _TOGETHER])


def _append(session: Session, missing: Sequence[Recorded], known: dict[int, RegistryChange]) -> None:
    rows = [
        {"seq": seq, "key": key, "payload": payload, "changed_at": known[seq].changed_at}
        for seq, key, payload, _arrival in missing
    ]
    for start in range(0, len(rows), _TOGETHER):
        session.execute(insert(LogEntry), rows[start : start + _TOGETHER])


class _Place(NamedTuple):
    """A slot, by what it is for."""

    org_id: str
    scope_type: str
    scope_id: str
    provider: str


class _Subjects:
    """Whom the missing changes are about, each with its whole history in the log."""

    def __init__(self, known: dict[int, RegistryChange], missing: set[int]) -> None:
        by_key: defaultdict[str, list[RegistryChange]] = defaultdict(list)
        for _, change in sorted(known.items()):
            by_key[change.key].append(change)
        self.missing = missing
        self.plans: list[PlanChange] = []
        self.cards: list[RateCardChange] = []
        self.aliases: list[ModelAliasesChange] = []
        self.credentials: list[list[CredentialChange]] = []
        for changes in by_key.values():
            # What is known already says more than an older change that was missing.
            if changes[-1].seq in missing:
                self._sort_in(changes)

    def _sort_in(self, changes: list[RegistryChange]) -> None:
        match changes[-1]:
            case PlanChange() as plan:
                self.plans.append(plan)
            case RateCardChange() as card:
                self.cards.append(card)
            case ModelAliasesChange() as aliases:
                self.aliases.append(aliases)
            case CredentialChange():
                self.credentials.append([change for change in changes if isinstance(change, CredentialChange)])


def _plans_and_cards(session: Session, subjects: _Subjects) -> tuple[int, int]:
    for plan in subjects.plans:
        history = to_change(plan)
        assert isinstance(history, PlanHistory)  # noqa: S101 - by the message's type
        repository.save_plans(session, history, plan.seq)
    for card in subjects.cards:
        row = RateCardRow(card=card.card, effective_from=card.effective_from, body=card.body, seq=card.seq)
        session.add(row)
    for change in subjects.aliases:
        save_aliases(session, ModelAliases(change.provider, change.aliases), change.seq)
    session.flush()
    return len(subjects.plans), len(subjects.cards)


class _Credentials:
    def __init__(self, session: Session, subjects: _Subjects, *, unsure: bool) -> None:
        """``unsure``: a change may be missing that put another key in a credential's place."""
        self.added = self.ended = 0
        self.lost: list[CredentialRow] = []
        self._session = session
        self._missing = subjects.missing
        self._histories = subjects.credentials
        self._unsure = unsure

    def bring_back(self, report: Report) -> None:
        """All of them. First every interval that has ended is closed, so that none of those that follow meets it."""
        rows = self._rows()
        rests = []
        for done, (row, changes) in enumerate(zip(rows, self._histories, strict=True), start=1):
            came = changes[0].seq in self._missing
            active = _credential(changes[-1]).active
            rests.append(active if came else active[self._close(row, active) :])
            self._stand(row, changes, came=came)
            report(done, len(rows))
        self._session.flush()
        self._session.add_all(
            CredentialInterval(
                credential_id=row.credential_id, slot_id=row.slot_id, active_from=span.start, active_to=span.end
            )
            for row, rest in zip(rows, rests, strict=True)
            for span in rest
        )
        self._session.flush()

    def _rows(self) -> list[CredentialRow]:
        """The rows of the credentials, in order; those that are not there are made."""
        slots = self._slots()
        rows = []
        for changes in self._histories:
            if changes[0].seq in self._missing:
                self.added += 1
                row = _new_row(changes, slots[_place(changes[-1])])
                self._session.add(row)
            else:
                row = self._session.get_one(CredentialRow, changes[-1].credential_id)
            rows.append(row)
        self._session.flush()
        return rows

    def _slots(self) -> dict[_Place, int]:
        """Every slot that is wanted, with its id; those that are not there are made."""
        wanted = {_place(changes[-1]) for changes in self._histories}
        if missing := sorted(wanted - self._there().keys()):
            self._session.execute(insert(Slot), [place._asdict() for place in missing])
        return self._there()

    def _there(self) -> dict[_Place, int]:
        slots = self._session.exec(select(Slot))
        return {_Place(slot.org_id, slot.scope_type, slot.scope_id, slot.provider): slot.slot_id for slot in slots}

    def _close(self, row: CredentialRow, active: Sequence[Interval]) -> int:
        """Give the intervals that are there their ends; how many there are."""
        mine = select(CredentialInterval).where(CredentialInterval.credential_id == row.credential_id)
        order = col(CredentialInterval.active_from), col(CredentialInterval.interval_id)
        there = self._session.exec(mine.order_by(*order)).all()
        for interval, span in zip(there, active, strict=False):
            interval.active_to = span.end
        return len(there)

    def _stand(self, row: CredentialRow, changes: Sequence[CredentialChange], *, came: bool) -> None:
        newest = changes[-1]
        ended = all(span.to is not None for span in newest.active)
        replaced = self._unsure or row.hint != newest.hint or _was_replaced(changes, self._missing)
        if ended:
            # Switched off, or deleted: the log does not tell, and whoever deleted it was promised that it is destroyed.
            self.ended += 1
            row.deleted_at = row.deleted_at or newest.changed_at
        if not came:
            row.revision += sum(change.seq in self._missing for change in changes)
            row.hint = newest.hint
            if ended or replaced:
                secret_rows.destroy_all(self._session, row.credential_id, newest.changed_at)
        if row.deleted_at is None and (came or secret_rows.current_secret(self._session, row.credential_id) is None):
            self.lost.append(row)


def _place(change: CredentialChange) -> _Place:
    return _Place(change.org_id, change.scope.type, change.scope.id, change.provider)


def _new_row(changes: Sequence[CredentialChange], slot_id: int) -> CredentialRow:
    first, newest = changes[0], changes[-1]
    return CredentialRow(
        credential_id=newest.credential_id,
        created_seq=first.seq,
        slot_id=slot_id,
        **_place(newest)._asdict(),
        hint=newest.hint,
        # No key has an empty one.
        fingerprint="",
        created_by=_NOBODY,
        created_at=first.changed_at,
        revision=len(changes),
    )


def _was_replaced(changes: Sequence[CredentialChange], missing: set[int]) -> bool:
    """Whether a missing change put another key in the credential's place: only that leaves its intervals alone."""
    return any(later.seq in missing and later.active == earlier.active for earlier, later in pairwise(changes))


def _credential(change: CredentialChange) -> Credential:
    credential = to_change(change)
    assert isinstance(credential, Credential)  # noqa: S101 - by the message's type
    return credential
