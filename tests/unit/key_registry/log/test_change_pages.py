"""What of the log a follower is told: whatever the pages, each change that concerns it once, in order."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from schemas.registry_changes import PlanChange
from services.key_registry.log.reading import Notice, Part, ToldChange, page_of

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
WHOSE = st.lists(st.sampled_from(["acme", "others", None]), max_size=40)
"""Of each change the organization; None: everybody's."""


def change(seq: int, org_id: str | None) -> ToldChange:
    if org_id is None:
        return Notice(seq, "rate_card", NOON, "2026-11-20")
    return PlanChange(seq=seq, changed_at=NOON, org_id=org_id, plans=())


def part_after(log: list[ToldChange], after: int, most: int) -> Part:
    """As ``read_after`` reads it."""
    changes = tuple(log[after : after + most])
    return Part(changes, changes[-1].seq if changes else after, len(log))


@given(WHOSE, st.sampled_from(["acme", None]), st.integers(1, 5), st.integers(1, 7))
def test_page_by_page_all_of_it(whose: list[str | None], org_id: str | None, limit: int, most: int) -> None:
    log = [change(seq, its) for seq, its in enumerate(whose, start=1)]
    told: list[int] = []
    after, more = 0, True
    while more:
        page = page_of(part_after(log, after, most), after, org_id, limit)
        assert len(page.changes) <= limit
        assert page.next_after > after or not page.more
        told += [its.seq for its in page.changes]
        after, more = page.next_after, page.more
    assert after == len(log)
    assert told == [seq for seq, its in enumerate(whose, start=1) if org_id is None or its in (org_id, None)]


@given(WHOSE, st.integers(0, 40), st.integers(0, 40))
def test_a_part_that_begins_earlier_or_ends_before_tells_nothing_twice(
    whose: list[str | None], begins: int, known: int
) -> None:
    log = [change(seq, its) for seq, its in enumerate(whose, start=1)]
    after = min(known, len(log))
    page = page_of(part_after(log, min(begins, after), 10), after, None, 100)
    assert all(its.seq > after for its in page.changes)
    assert page.next_after >= after
