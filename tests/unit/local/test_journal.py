"""The journal's files: what is owed after a crash at any byte, and that they go once everything is booked."""

from __future__ import annotations

import itertools

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from services.local.embedded.journal import resend as resending
from services.local.embedded.journal.batches import NotABatchError, record_count, without_first, without_producer
from services.local.embedded.journal.journal import Journal
from services.local.embedded.journal.notes import Kept, Placed, Settled, encode
from services.local.embedded.journal.resend import resend

GZIP = 1


def batch(*values, codec=0, producer=7):
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=1,
        producer_id=producer,
        producer_epoch=0,
        base_sequence=40,
        batch_size=1 << 20,
    )
    for offset, value in enumerate(values):
        builder.append(offset, 1_000 + offset, b"org", value, [("trace", b"1")])
    return bytes(builder.build())


def read(batches):
    reader, found = MemoryRecords(batches), []
    while (each := reader.next_batch()) is not None:
        assert each.validate_crc()
        found += [(record.timestamp, record.key, record.value, tuple(record.headers)) for record in each]
    return found


class Broker(resending.Broker):
    """What a broker is to the resending: offsets from ``first`` on, or a refusal."""

    def __init__(self, first=0, refuse=None):
        self.offsets = itertools.count(first)
        self.refuse = refuse
        self.got = []

    def produce(self, batches):
        return [self.refuse or self._take(partition, records) for partition, records in batches]

    def _take(self, partition, records):
        found = read(records)
        self.got += [(partition, value) for _, _, value, _ in found]
        return next(iter([next(self.offsets) for _ in found]))


def owed(folder, cluster="later", booked=()):
    """What is sent again after a start on the folder."""
    broker = Broker()
    resend(Journal(folder, cluster), broker, cluster, dict(booked))
    return broker.got


def files(folder):
    return sorted(folder.iterdir())


@pytest.mark.parametrize("codec", [0, GZIP])
def test_another_broker_gets_the_same_records_from_a_producer_without_identity(codec):
    sent = batch(b"a", b"b", codec=codec)
    again = without_producer(sent)
    assert read(again) == read(sent)
    header = MemoryRecords(again).next_batch()
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (-1, -1, -1)
    assert not header.is_transactional


def test_a_wrong_checksum_stays_wrong():
    sent = bytearray(batch(b"a"))
    sent[-1] ^= 1
    assert not MemoryRecords(without_producer(bytes(sent))).next_batch().validate_crc()


@pytest.mark.parametrize("codec", [0, GZIP])
def test_of_a_batch_that_is_booked_in_part_the_rest_remains(codec):
    sent = batch(b"a", b"b", codec=codec) + batch(b"c", b"d", codec=codec)
    assert record_count(sent) == 4
    assert read(without_first(sent, 3)) == read(sent)[3:]


@pytest.mark.parametrize("cut", [1, 12, 60, -1])
def test_bytes_that_are_no_batch_are_told(cut):
    with pytest.raises(NotABatchError):
        record_count(batch(b"a")[:cut])


def test_what_has_no_place_or_is_not_booked_is_owed_in_its_order(tmp_path):
    journal = Journal(tmp_path, "c1")
    journal.write([Kept(1, 0, batch(b"a", b"b")), Kept(2, 1, batch(b"c"))])
    journal.write([Placed(1, 10, "c1"), Kept(3, 0, batch(b"d")), Kept(4, 0, batch(b"refused"))])
    journal.write([Placed(3, 12, "c1"), Settled(4)])
    # Of the first entry, one record is booked; the second one has no place, for the answer never came.
    assert owed(tmp_path, booked={("c1", 0): 11}) == [(0, b"b"), (1, b"c"), (0, b"d")]


def test_an_entry_is_sent_again_after_each_run_until_it_is_booked_by_one(tmp_path):
    Journal(tmp_path, "c1").write([Kept(1, 0, batch(b"a", b"b", b"c"))])
    journal = Journal(tmp_path, "c2")
    resend(journal, Broker(first=0), "c2", {})
    assert owed(tmp_path, "c3", {("c2", 0): 1}) == [(0, b"b"), (0, b"c")]
    # The third broker had the second and third record at its offsets 0 and 1, and booked one of them.
    assert owed(tmp_path, "c4", {("c2", 0): 1, ("c3", 0): 1}) == [(0, b"c")]
    assert owed(tmp_path, "c5", {("c2", 0): 1, ("c3", 0): 1, ("c4", 0): 1}) == []


def test_numbers_go_on_after_a_restart(tmp_path):
    journal = Journal(tmp_path, "c1")
    journal.write([Kept(journal.next_entry, 0, batch(b"a"))])
    assert Journal(tmp_path, "c2").next_entry == journal.next_entry + 1


def test_cut_at_any_byte_the_last_note_counts_for_nothing_and_the_others_stay(tmp_path):
    whole = encode(Kept(1, 0, batch(b"a")))
    last = encode(Kept(2, 0, batch(b"b")))
    for cut in range(len(last)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "000000000001.journal").write_bytes(whole + last[:cut])
        assert owed(folder) == [(0, b"a")]


def test_what_is_written_after_a_torn_note_is_in_a_file_of_its_own(tmp_path):
    Journal(tmp_path, "c1").write([Kept(1, 0, batch(b"a"))])
    (torn,) = files(tmp_path)
    torn.write_bytes(torn.read_bytes() + encode(Kept(2, 0, batch(b"torn")))[:-1])
    later = Journal(tmp_path, "c2")
    later.write([Kept(2, 0, batch(b"b"))])
    assert owed(tmp_path) == [(0, b"a"), (0, b"b")]


def test_a_file_goes_when_all_of_it_is_booked_and_the_journal_grows_again_after_that(tmp_path):
    journal = Journal(tmp_path, "c1")
    journal.write([Kept(1, 0, batch(b"a", b"b")), Kept(2, 1, batch(b"c"))])
    journal.drop_booked({0: 100, 1: 100})
    # Without places nobody knows whether it is booked.
    assert files(tmp_path)
    journal.write([Placed(1, 10, "c1"), Placed(2, 5, "c1")])
    for too_few in ({}, {0: 12}, {0: 11, 1: 6}):
        journal.drop_booked(too_few)
        assert files(tmp_path)
    journal.drop_booked({0: 12, 1: 6})
    assert journal.is_empty
    assert not files(tmp_path)
    journal.write([Kept(3, 0, batch(b"d"))])
    assert owed(tmp_path) == [(0, b"d")]


def test_a_full_file_is_followed_by_another_and_files_go_from_the_front(tmp_path):
    journal = Journal(tmp_path, "c1", segment_bytes=1)
    for entry in range(1, 4):
        journal.write([Kept(entry, entry, batch(b"a"))])
    journal.write([Placed(entry, 0, "c1") for entry in range(1, 4)])
    first = files(tmp_path)[0]
    # The last file tells where the entry of the first one lies, so it stays as long as that one.
    journal.drop_booked({2: 1, 3: 1})
    assert files(tmp_path)[0] == first
    journal.drop_booked({1: 1})
    assert first not in files(tmp_path)
    journal.drop_booked({1: 1, 2: 1, 3: 1})
    assert not files(tmp_path)


def test_what_earlier_runs_left_goes_when_it_is_booked_in_this_one(tmp_path):
    Journal(tmp_path, "c1").write([Kept(1, 0, batch(b"a")), Kept(2, 0, batch(b"b"))])
    journal = Journal(tmp_path, "c2")
    assert resend(journal, Broker(), "c2", {}) == 2
    journal.drop_booked({0: 1})
    assert files(tmp_path)
    journal.drop_booked({0: 2})
    assert not files(tmp_path)


def test_an_entry_that_the_broker_refuses_stays_and_holds_up_no_other(tmp_path):
    from kafka.errors import CorruptRecordError

    Journal(tmp_path, "c1").write([Kept(1, 0, batch(b"a"))])
    assert resend(Journal(tmp_path, "c2"), Broker(refuse=CorruptRecordError()), "c2", {}) == 0
    assert owed(tmp_path, "c3") == [(0, b"a")]


def test_where_the_folder_is_gone_nothing_is_kept_and_it_is_told(tmp_path):
    folder = tmp_path / "journal"
    journal = Journal(folder, "c1")
    folder.rmdir()
    with pytest.raises(OSError, match="No such file"):
        journal.write([Kept(1, 0, batch(b"a"))])
    folder.mkdir()
    journal.write([Kept(2, 0, batch(b"b"))])
    journal.write([Placed(2, 0, "c1")])
    journal.drop_booked({0: 1})
    assert not files(folder)
