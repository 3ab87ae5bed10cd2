"""What a batch comes to: charges and refusals, all priced with the same prefix of the registry log."""

from __future__ import annotations

import json

import pytest

from schemas.dead_letters import Reason
from services.domain.entries import EntryKind
from services.domain.rating import Amounts
from services.domain.usage import payload_hash
from services.metering.booking.dead_letters import dead_letter
from services.metering.booking.pricing import Covered, Record, price_batch, read_elements
from tests.factories import card, credential, directory, plan, utc, wire

NOW = utc("2026-12-01T00:00:00")
CARDS = (card("2026-04-27", utc("2026-04-27")),)
KNOWN = directory(plan("pro"), credential("my-key"), cards=CARDS)


def node(**changes):
    return wire(model=changes.pop("model", "small")) | changes


def record(*events, batch=True, offset=7, partition=3):
    value = json.dumps(list(events) if batch else events[0]).encode()
    return Record(partition, offset, b"org-1", value, 0.0)


def priced(*records, known=KNOWN):
    return price_batch([Covered(3, 7, 7 + len(records))], [read_elements(each, NOW) for each in records], known)


def test_an_event_becomes_a_charge_with_its_payload_and_place():
    (element,) = read_elements(record(node(), batch=False), NOW).elements
    assert element.payload_hash == payload_hash(element.event)
    assert (element.source_index, element.rejection) == (0, None)
    (found,) = priced(record(node(), batch=False)).elements
    assert found.rejection is None
    assert found.entry.kind is EntryKind.CHARGE
    assert found.entry.attribution.amounts == Amounts(2_000_000, 1_000_000)
    assert found.entry.registry_seq == KNOWN.seq == 3


def test_every_entry_of_a_batch_names_the_prefix_that_priced_it():
    batch = priced(record(node(), node(id="2")), record(node(id="3"), offset=8))
    assert batch.registry_seq == 3
    assert {found.entry.registry_seq for found in batch.elements} == {3}
    assert [found.entry.event.id for found in batch.elements] == ["event-1", "2", "3"]


def test_covered_offsets_are_ordered_by_partition():
    covered = [Covered(5, 0, 2), Covered(1, 4, 9)]
    assert price_batch(covered, [], KNOWN).covered == (Covered(1, 4, 9), Covered(5, 0, 2))


@pytest.mark.parametrize(
    ("event", "reason", "detail"),
    [
        (
            node(time="2026-04-26T23:59:59.999999Z"),
            Reason.NO_RATE_CARD,
            "no rate card is in force at 2026-04-26T23:59:59.999999+00:00",
        ),
        (
            # No card comes before no price.
            node(time="2026-04-26T23:59:59.999999Z", model="unheard-of"),
            Reason.NO_RATE_CARD,
            "no rate card is in force at 2026-04-26T23:59:59.999999+00:00",
        ),
        (
            node(model="unheard-of"),
            Reason.UNPRICED_MODEL,
            "rate card 2026-04-27 has no price for openai/unheard-of",
        ),
        (
            node(model="sk-proj-0123456789abcdefghij"),
            Reason.UNPRICED_MODEL,
            "rate card 2026-04-27 has no price for openai/[masked key]",
        ),
        (node(id=""), Reason.INVALID_EVENT, "id: String should have at least 1 character"),
    ],
)
def test_what_has_no_price_is_refused_and_its_neighbours_are_charged(event, reason, detail):
    before, found, after = priced(record(node(), event, node())).elements
    assert found.entry is None
    assert found.rejection[:2] == (reason, detail)
    assert before.entry is not None
    assert after.entry is not None


def test_a_model_name_as_long_as_an_id_may_be_is_refused_in_a_detail_with_an_end():
    (found,) = priced(record(node(model="m" * 128))).elements
    assert found.rejection.reason is Reason.UNPRICED_MODEL
    assert len(found.rejection.detail) <= 300


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"[1", b"[" + b"1," * 1_000 + b"1]"])
def test_what_is_no_readable_batch_is_one_element_with_all_its_bytes(value):
    read = read_elements(Record(0, 0, None, value, 0.0), NOW)
    (element,) = read.elements
    assert element.event is None
    assert element.source == (value or b"")


def test_what_nobody_can_read_is_one_element_without_bytes_and_says_why():
    read = read_elements(Record(0, 0, None, None, 0.0, unreadable="its checksum is wrong"), NOW)
    (element,) = read.elements
    assert element.source == b""
    assert element.rejection[:2] == (Reason.MALFORMED_JSON, "its checksum is wrong")


def test_elements_of_a_batch_have_their_own_bytes():
    value = b'[ {"a" : 1},null , "x"]'
    elements = read_elements(Record(0, 0, None, value, 0.0), NOW).elements
    assert [element.source for element in elements] == [b'{"a" : 1}', b"null", b'"x"']


def test_an_element_that_was_refused_before_stays_refused():
    read = read_elements(record(node()), NOW)
    (element,) = read.elements
    rejection = read_elements(record(None), NOW).elements[0].rejection
    poisoned = read._replace(elements=(element._replace(rejection=rejection),))
    (found,) = price_batch([Covered(3, 7, 8)], [poisoned], KNOWN).elements
    assert (found.entry, found.rejection) == (None, rejection)


def test_an_element_nested_just_below_the_limit_can_become_a_dead_letter():
    deep = json.dumps(node(model="unheard-of"))[:-1] + ', "x": ' + "[" * 1_010 + "]" * 1_010 + "}"
    value = f"[{json.dumps(node())}, {deep}]".encode()
    for found in priced(Record(3, 7, None, value, 0.0)).elements:
        if found.rejection is not None:
            dead_letter(found.element, found.rejection)
