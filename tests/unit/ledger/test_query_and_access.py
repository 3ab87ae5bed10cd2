"""Cursors, groups, and who may see what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.permissions import Caller
from services.ledger.access import Visible, visible_in
from services.ledger.query import Cursor, cursor_in, parse_groups
from services.runtime.refusals import Refusal


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    st.uuids(),
    st.sampled_from(["asc", "desc"]),
)
def test_a_cursor_reads_back_as_it_was(at: datetime, entry_id: UUID, order):
    cursor = Cursor(at, entry_id, order)
    assert cursor_in(cursor.encode(), order) == cursor


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda raw: raw.hex()))
def test_any_other_text_is_refused(text):
    with pytest.raises(Refusal, match="invalid_cursor"):
        cursor_in(text, "asc")


def test_a_cursor_of_another_order_is_refused():
    text = Cursor(datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))), uuid4(), "asc").encode()
    with pytest.raises(Refusal, match="invalid_cursor"):
        cursor_in(text, "desc")


def test_groups_are_named_once_in_their_order():
    assert parse_groups("") == ()
    assert parse_groups(" provider , day,provider") == ("provider", "day")


def _caller(org_id="acme", role="member", *, teams=(), scopes=()):
    return Caller("ann", org_id, role, dict.fromkeys(teams, "member"), frozenset(scopes))


def test_a_member_is_shown_its_own_and_its_teams():
    visible = visible_in(_caller(teams=["red"]), "acme")
    assert visible == Visible(False, "ann", ("red",))  # noqa: FBT003
    assert visible.shows("ann", None)
    assert visible.shows("bob", "red")
    assert not visible.shows("bob", "blue")
    assert not visible.shows("bob", None)


@pytest.mark.parametrize("caller", [_caller(role="admin"), _caller("*", None, scopes=["ledger:read"])])
def test_admins_and_readers_are_shown_everything(caller):
    assert visible_in(caller, "acme").everything


@pytest.mark.parametrize(
    ("caller", "code"),
    [
        (_caller("other", "admin"), "organization_forbidden"),
        (_caller("other", scopes=["ledger:read"]), "organization_forbidden"),
        (_caller(role=None, scopes=["usage:write"]), "insufficient_scope"),
        (_caller("*", "admin"), "insufficient_scope"),
    ],
)
def test_everyone_else_is_refused(caller, code):
    with pytest.raises(Refusal, match=code):
        visible_in(caller, "acme")
