"""However a file grows, each of its rows stays the event that it was."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.cli.usage.identity import ColumnsIdentity, RowIdentity
from services.cli.usage.sources import Row

CELLS = st.fixed_dictionaries({"a": st.sampled_from(["", "1", "2"]), "b": st.sampled_from(["x", "y"])})


def ids(rows):
    identity = RowIdentity()
    return [identity(Row(line, row)) for line, row in enumerate(rows, 2)]


@given(st.lists(CELLS, max_size=8), st.lists(CELLS, max_size=8), st.randoms(use_true_random=False))
def test_rows_keep_their_ids_whatever_is_added_and_wherever_they_come_to_stand(old, new, random):
    grown = [*old, *new]
    random.shuffle(grown)
    before, after = ids(old), ids(grown)
    assert len(set(before)) == len(before)
    assert len(set(after)) == len(after)
    assert set(before) <= set(after)


@given(st.lists(CELLS, max_size=8))
def test_as_many_rows_as_say_the_same_are_events(rows):
    said = Counter(tuple(sorted(row.items())) for row in rows)
    assert Counter(id_.split("-")[1] for id_ in ids(rows)).total() == said.total()


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)


@given(NAMES, NAMES, NAMES, NAMES)
def test_two_keys_of_columns_are_one_only_if_they_say_the_same(a, b, c, d):
    identity = ColumnsIdentity(["a", "b"])
    one, other = (a.strip(), b.strip()), (c.strip(), d.strip())
    if any(one) and any(other):
        assert (identity(Row(2, {"a": a, "b": b})) == identity(Row(3, {"a": c, "b": d}))) is (one == other)
