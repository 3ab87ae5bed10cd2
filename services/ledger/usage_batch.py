"""From a request's bytes to Kafka records: what is no event is named, and everything else goes on, as it was sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from schemas.dead_letters import Reason
from services.domain.masking import mask_bytes
from services.domain.usage import Identity
from services.messages.json_bytes import element_sources
from services.messages.usage_events import OF_THE_WHOLE_RECORD, Accepted, Rejected, Rejection, known_fields, read_record
from services.runtime.refusals import Refusal

_ERRORS_SHOWN = 100
_BRACKETS = len(b"[]")


class UsageRecord(NamedTuple):
    """What becomes one Kafka record: events of one organization, as their JSON was sent."""

    org_id: str
    value: bytes
    events: int
    first: Identity
    """Of its first event: by it the record is found in logs."""


class UsageRequest(NamedTuple):
    """The events of a request, and what is wrong with the others."""

    body: bytes
    accepted: Sequence[Accepted]
    rejected: Sequence[Rejected]

    @property
    def organizations(self) -> set[str]:
        """Whose events they are."""
        return {each.event.org_id for each in self.accepted}

    @property
    def errors(self) -> list[dict[str, Any]]:
        """What is wrong, event by event and field by field; of every rejected event one fault at least."""
        errors: list[dict[str, Any]] = []
        for index, rejection in self.rejected:
            shown = max(1, _ERRORS_SHOWN - len(errors))
            errors += [
                {"index": index, "field": fault.field, "code": rejection.reason.value, "detail": fault.detail}
                for fault in rejection.faults[:shown]
            ]
        return errors

    def without(self, rejected: Iterable[Rejected]) -> UsageRequest:
        """The request with these events rejected, too. Raises 422 where none is left."""
        more = {each.source_index: each for each in rejected}
        rest = [each for each in self.accepted if each.source_index not in more]
        return _checked(
            UsageRequest(self.body, rest, sorted([*self.rejected, *more.values()], key=lambda each: each.source_index))
        )


def read_events(body: bytes, now: datetime, *, bytes_max: int) -> UsageRequest:
    """The events in a request, read as metering reads them from Kafka, each of at most ``bytes_max`` bytes.

    Raises Refusal where there is no good one: ``malformed_json``, ``batch_too_large``, else the code of the first bad
    one and all that is wrong.
    """
    outcomes = read_record(body, now)
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
    rejected = [outcome for outcome in outcomes if isinstance(outcome, Rejected)]
    request = _checked(UsageRequest(body, accepted, rejected))
    return request if len(body) <= bytes_max else request.without(_too_large(request, bytes_max))


def _checked(request: UsageRequest) -> UsageRequest:
    if request.accepted:
        return request
    reason, detail, _ = request.rejected[0].rejection
    if reason in OF_THE_WHOLE_RECORD:
        raise Refusal(reason, f"The request cannot be read: {detail}.")
    raise Refusal(reason, "No event of the request can be accepted.", errors=request.errors[:_ERRORS_SHOWN])


def _too_large(request: UsageRequest, bytes_max: int) -> list[Rejected]:
    rejection = Rejection.of(Reason.INVALID_EVENT, f"must be at most {bytes_max - _BRACKETS} bytes")
    sources = element_sources(request.body)
    large = (each for each in request.accepted if len(sources[each.source_index]) + _BRACKETS > bytes_max)
    return [Rejected(each.source_index, rejection) for each in large]


def pack(request: UsageRequest, *, bytes_max: int) -> list[UsageRecord]:
    """One record for each organization, its events in their order; more where one would exceed ``bytes_max``.

    A request of one organization that fits goes as it came; else each event keeps the bytes it was sent in. Where
    somebody's key stands in a field that nobody reads, only what is read goes: it would lie on the topic for days.
    """
    organizations, holds_key = request.organizations, mask_bytes(request.body)[1]
    if len(organizations) == 1 and not request.rejected and not holds_key and len(request.body) <= bytes_max:
        first = request.accepted[0].event.identity
        return [UsageRecord(first.org_id, request.body, len(request.accepted), first)]
    sources = [] if holds_key else element_sources(request.body)
    by_organization: dict[str, list[_Element]] = {}
    for each in request.accepted:
        own = by_organization.setdefault(each.event.org_id, [])
        value = known_fields(each.event) if holds_key else sources[each.source_index]
        own.append(_Element(each.event.identity, value))
    return [record for own in by_organization.values() for record in _records(own, bytes_max)]


class _Element(NamedTuple):
    identity: Identity
    value: bytes


def _records(elements: Iterable[_Element], bytes_max: int) -> Iterable[UsageRecord]:
    chunk: list[_Element] = []
    size = _BRACKETS
    for element in elements:
        # With a comma for each.
        if chunk and size + len(element.value) + 1 > bytes_max:
            yield _record(chunk)
            chunk, size = [], _BRACKETS
        chunk.append(element)
        size += len(element.value) + 1
    yield _record(chunk)


def _record(elements: list[_Element]) -> UsageRecord:
    value = b"[" + b",".join(element.value for element in elements) + b"]"
    return UsageRecord(elements[0].identity.org_id, value, len(elements), elements[0].identity)
