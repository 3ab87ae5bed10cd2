"""What the ledger books: charges, and the pairs of reversal and correction by which late knowledge converges."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from services.domain.rating import Amounts, Rating
from services.domain.usage import Identity, UsageEvent, digest
from services.domain.values import Value, uuid_of

# RFC 9562: version 8 and variant 10 take six bits of an id, the other 122 are ours.
_OURS = ~(0xF << 76 | 0b11 << 62)
_VERSION_8_VARIANT_10 = 0x8 << 76 | 0b10 << 62


class EntryKind(StrEnum):
    """A first charge, the exact negative of an entry, or the entry that stands in its place."""

    CHARGE = "charge"
    REVERSAL = "reversal"
    CORRECTION = "correction"


# An Enum looks its members up in Python, each time; this one is named for every event.
_CHARGE = EntryKind.CHARGE


class Attribution(Value, frozen=True):
    """Everything that late knowledge can change about an entry: what it says, and what it costs."""

    key_source: str
    byok_scope: str | None
    credential_id: str | None
    reason: str
    flags: tuple[str, ...]
    rate_card: str
    tier: str | None
    priced_model: str | None
    """Under which name the card lists the model, where that is not the name that was reported."""
    amounts: Amounts


def attribution(rating: Rating) -> Attribution:
    """What a rating writes into an entry. A key source without a credential has no scope."""
    found = rating.resolution
    credential, flags = found.credential, found.flags
    return Attribution(
        str(found.key_source),
        None if credential is None else str(credential.scope.type),
        None if credential is None else credential.credential_id,
        str(found.reason),
        tuple(map(str, flags)) if flags else (),
        rating.card.card,
        rating.tier,
        rating.priced_model,
        rating.amounts,
    )


class Quantities(Value, frozen=True):
    """What an entry counts: the quantity and the tokens; negative in a reversal."""

    quantity: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int

    def negated(self) -> Quantities:
        """The same amounts taken back."""
        return Quantities(*(-value for value in self))


class Entry(Value, frozen=True):
    """One row of the ledger. The event it books is the same in every revision; a reversal negates the amounts."""

    entry_id: UUID
    kind: EntryKind
    revision: int
    adjusts: UUID | None
    event: UsageEvent
    quantities: Quantities
    attribution: Attribution
    registry_seq: int


def entry_id(event: Identity | UsageEvent, revision: int, kind: EntryKind) -> UUID:
    """The id of an entry follows from what it is, so whoever books it twice books the same row (UUID version 8).

    No part of an identity has control characters, so one of them parts what is hashed without doubt.
    """
    said = digest(f"{event.org_id}\x1f{event.source}\x1f{event.id}\x1f{revision}\x1f{kind!s}")
    return uuid_of(int.from_bytes(said[:16], "big") & _OURS | _VERSION_8_VARIANT_10)


def quantities_of(event: UsageEvent) -> Quantities:
    """What a charge or a correction of the event counts."""
    return Quantities(event.quantity, event.input_tokens, event.cached_input_tokens, event.output_tokens)


def charge(event: UsageEvent, rating: Rating, registry_seq: int) -> Entry:
    """The one charge (revision 0) of an event, priced with the registry log up to ``registry_seq``."""
    return Entry(
        entry_id(event, 0, _CHARGE), _CHARGE, 0, None, event, quantities_of(event), attribution(rating), registry_seq
    )


def reprice(current: Entry, rating: Rating, registry_seq: int) -> tuple[Entry, Entry] | None:
    """Reversal and correction that put ``current`` right; None where nothing about it changes.

    ``current`` is the charge or the last correction. The reversal takes it back and names it; the correction names the
    charge that it corrects.
    """
    now = attribution(rating)
    if now == current.attribution:
        return None
    event, revision = current.event, current.revision + 1
    before = current.attribution
    reversal = Entry(
        entry_id=entry_id(event, revision, EntryKind.REVERSAL),
        kind=EntryKind.REVERSAL,
        revision=revision,
        adjusts=current.entry_id,
        event=event,
        quantities=current.quantities.negated(),
        attribution=before._replace(amounts=Amounts(-before.amounts.list_mc, -before.amounts.charged_mc)),
        registry_seq=registry_seq,
    )
    correction = Entry(
        entry_id=entry_id(event, revision, EntryKind.CORRECTION),
        kind=EntryKind.CORRECTION,
        revision=revision,
        adjusts=current.entry_id if current.adjusts is None else current.adjusts,
        event=event,
        quantities=quantities_of(event),
        attribution=now,
        registry_seq=registry_seq,
    )
    return reversal, correction
