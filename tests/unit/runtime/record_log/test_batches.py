"""What is read of a fetch's bytes: everything up to the first batch that cannot be, and that one's place."""

from __future__ import annotations

import gzip

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.runtime.record_log import batches
from services.runtime.record_log.batches import Reading, Unreadable, readable, stand_in
from tests.kafka.raw_batches import (
    CODECS,
    HEADER_BYTES,
    UNKNOWN_CODEC,
    batch,
    changed,
    with_odd_header_keys,
    with_records,
)

GOOD = batch([b"one", b"two"])
BEHIND = batch([b"three"], base_offset=2)
_END = 3
_CONTROL, _TRANSACTIONAL = 0x20, 0x10


def _records(data: bytes, offset: int = 0, aborted: list[tuple[int, int]] | None = None) -> list[tuple[int, object]]:
    """What aiokafka makes of the bytes, as the consumers of a worker do."""
    where = TopicPartition("t", 0)
    read = PartitionRecords(where, MemoryRecords(data), aborted, offset, None, None, True, READ_COMMITTED)  # noqa: FBT003
    return [(record.offset, record.value) for record in read]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_what_can_be_read_is_passed_on_out_of_its_compression(codec: int) -> None:
    values, headers = [b"one" * 50, None], [("h", b"v"), ("h", None)]
    data = batch(values, codec=codec, headers=headers) + BEHIND
    assert readable(data, 0, _END) == Reading(batch(values, headers=headers) + BEHIND, None)
    assert _records(data) == [(0, b"one" * 50), (1, None), (2, b"three")]


def test_gzip_of_several_members_is_what_they_hold_one_after_the_other() -> None:
    records = batch([b"one" * 50, b"two"])[HEADER_BYTES:]
    members = gzip.compress(records[:20]) + gzip.compress(b"") + gzip.compress(records[20:]) + b"\0\0"
    data, fault = readable(with_records(GOOD, members, attributes=1), 0, _END)
    assert fault is None
    assert _records(data) == [(0, b"one" * 50), (1, b"two")]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_keys_of_headers_that_are_no_text_harm_nobody(codec: int) -> None:
    data, fault = readable(with_odd_header_keys([b"one" * 50, b"two"], codec=codec) + BEHIND, 0, _END)
    assert fault is None
    assert _records(data) == [(0, b"one" * 50), (1, b"two"), (2, b"three")]


BROKEN = {
    "checksum": changed(GOOD, crc=1),
    "unknown codec": changed(GOOD, attributes=UNKNOWN_CODEC),
    **{f"broken {name}": changed(GOOD, attributes=codec) for name, codec in CODECS.items() if codec},
    "cut gzip": with_records(GOOD, batch([b"one" * 99] * 2, codec=1)[HEADER_BYTES:-9], attributes=1),
    "unknown format": changed(GOOD, magic=3),
    "old format": changed(GOOD, magic=1),
    "garbage": with_records(GOOD, b"\x01\x02\x03"),
    "no records": with_records(GOOD, b""),
    "control batch of no marker": changed(GOOD, attributes=_CONTROL),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_batch_that_cannot_be_read_has_a_dead_record_at_each_offset(broken: bytes) -> None:
    reading = readable(broken + BEHIND, 0, _END)
    assert reading.data == b""
    assert reading.fault is not None
    assert reading.fault[:2] == (0, 1)
    assert _records(stand_in(reading.fault, "why")) == [(0, None), (1, None)]


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_what_lies_before_it_is_read_first_and_what_was_read_of_it_not_again(broken: bytes) -> None:
    before = batch([b"zero"], base_offset=9)
    reading = readable(before + changed_place(broken, 10) + batch([b"behind"], base_offset=12), 9, 13)
    assert reading.data == before
    assert reading.fault is not None
    assert reading.fault[:2] == (10, 11)
    again = readable(changed_place(broken, 10), 11, 13)
    assert again.fault is not None
    assert again.fault[:2] == (11, 11)


def changed_place(whole: bytes, base_offset: int) -> bytes:
    """The batch at another place; its checksum, right or wrong, stays as it is."""
    return base_offset.to_bytes(8, "big") + whole[8:]


@pytest.mark.parametrize(
    ("lie", "first", "last", "each"),
    [
        # A count that disagrees with the offsets: one dead record for all of them.
        ({"records": 5}, 0, 1, False),
        ({"records": -1}, 0, 1, False),
        ({"records": 1}, 0, 1, False),
        # Offsets that lie beyond the log, or before their own beginning: no number of the header is believed.
        ({"last_offset_delta": 2**31 - 1}, 0, 1, True),
        ({"last_offset_delta": -1}, 0, 1, True),
        ({"last_offset_delta": 0, "records": 1}, 0, 0, True),
        # The place of a batch is the broker's to write, and in no checksum.
        ({"base_offset": 2**62}, 0, 1, True),
    ],
)
def test_a_header_that_lies_covers_no_offset_of_another_batch(
    lie: dict[str, int], first: int, last: int, *, each: bool
) -> None:
    fault = readable(changed(GOOD, **lie) + BEHIND, 0, _END).fault
    assert fault is not None
    assert (fault.first, fault.last, fault.each) == (first, last, each)
    # One whose last offset is right, and whose records are not, is told for its last offset alone.
    assert _records(stand_in(fault, "why"))[-1] == (last, None)


def test_offsets_that_do_not_rise_would_lead_a_reader_astray() -> None:
    """aiokafka believes them: it would go on far behind the end, and what lies between would never be read."""
    far = with_records(GOOD, bytes([14, 0, 0, 126, 1, 2, 0x61, 0, 14, 0, 0, 2, 1, 2, 0x62, 0]))
    assert [offset for offset, _ in _records(far)] == [63]
    fault = readable(far + BEHIND, 0, _END).fault
    assert fault is not None
    assert fault[:2] == (0, 1)


def test_a_few_bytes_that_stand_for_very_many_are_not_taken_out_of_their_compression(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.runtime.record_log.decompression.OPENED_BYTES_MAX", 1000)
    for codec in list(CODECS.values())[1:]:
        assert readable(batch([b"a" * 900], codec=codec), 0, 1).fault is None
        fault = readable(batch([b"a" * 1000], codec=codec), 0, 1).fault
        assert fault is not None
        assert fault.why == "the batch holds more than 1000 bytes uncompressed"


def test_what_comes_to_too_much_together_is_read_with_several_fetches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_TOGETHER_BYTES", 1000)
    data = b"".join(batch([b"a" * 900], codec=4, base_offset=offset) for offset in range(5))
    assert [offset for offset, _value in _records(readable(data, 0, 5).data)] == [0, 1]


def test_more_records_than_are_worth_a_dead_letter_each_are_told_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_STAND_INS_MAX", 10)
    many = changed(GOOD, attributes=UNKNOWN_CODEC, last_offset_delta=10, records=11)
    fault = readable(many, 0, 11).fault
    assert fault == Unreadable(0, 10, "compression 7 is none that Kafka knows", each=False)
    assert _records(stand_in(fault, "why")) == [(10, None)]


def test_the_end_of_a_fetch_may_cut_a_batch_but_never_its_first() -> None:
    assert readable(GOOD + BEHIND[:-1], 0, _END) == Reading(GOOD, None)
    assert readable(GOOD + BEHIND[:5], 0, _END) == Reading(GOOD, None)
    cut = readable(GOOD[:-1], 0, _END)
    assert cut.data == b""
    assert cut.fault is not None
    assert cut.fault[:2] == (0, 1)
    assert readable(GOOD[:5], 0, _END).fault == Unreadable(0, 0, "its length is not that of its bytes")


def test_no_batch_may_claim_the_offsets_of_another() -> None:
    before, after = batch([b"zero"]), batch([b"nine"], base_offset=9)
    for place in (0, 8):
        reading = readable(before + changed_place(GOOD, place) + after, 0, 10)
        assert reading.data == before
        assert reading.fault == Unreadable(1, 8, "its offsets are not those of its place in the log")


def test_what_a_producer_took_back_is_no_loss_though_it_cannot_be_read() -> None:
    broken = changed(GOOD, attributes=UNKNOWN_CODEC | _TRANSACTIONAL, producer_id=4711)
    fault = readable(broken, 0, 2).fault
    assert fault is not None
    assert _records(stand_in(fault, "why")) == [(0, None), (1, None)]
    assert _records(stand_in(fault, "why"), aborted=[(4711, 0)]) == []


def _read_all(data: list[bytes], end: int) -> list[tuple[int, object]]:
    """Everything that a worker is given that fetches on and on, as from a broker that serves whole batches."""
    given: list[tuple[int, object]] = []
    offset = 0
    while offset < end:
        at = max((number for number in range(len(data)) if number * 3 <= offset), default=0)
        reading = readable(b"".join(data[at:]), offset, end)
        part = reading.data or (stand_in(reading.fault, "why") if reading.fault else b"")
        came = [each for each in _records(part, offset) if each[0] < end]
        assert came, "nothing came, and a worker would stay here for ever"
        given += came
        offset = came[-1][0] + 1
    return given


@settings(max_examples=400, deadline=None)
@given(
    codec=st.sampled_from(list(CODECS.values())),
    damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 7)), min_size=1, max_size=4),
    mend_checksum=st.booleans(),
)
# It claims one offset of the next batch, with a right checksum, and cannot be read.
@example(codec=0, damage=[(26, 0), (60, 3)], mend_checksum=True)
def test_whatever_bits_are_wrong_nothing_is_raised_and_all_else_is_read(
    codec: int, damage: list[tuple[int, int]], *, mend_checksum: bool
) -> None:
    whole = [batch([b"%d" % n * 40 for n in (at, at + 1, at + 2)], codec=codec, base_offset=at) for at in (0, 3, 6)]
    hit = bytearray(whole[1])
    for place, bit in damage:
        hit[place % len(hit)] ^= 1 << bit
    middle = changed(bytes(hit)) if mend_checksum else bytes(hit)
    given = _read_all([whole[0], middle, whole[2]], 9)
    offsets = [offset for offset, _value in given]
    assert offsets == sorted(set(offsets))
    values = dict(given)
    assert [values[offset] for offset in (0, 1, 2)] == [b"%d" % n * 40 for n in (0, 1, 2)]
    if int.from_bytes(middle[8:12], "big", signed=True) == len(middle) - 12:
        # Where the length is right, what lies behind is found at once.
        assert [values[offset] for offset in (6, 7, 8)] == [b"%d" % n * 40 for n in (6, 7, 8)]
