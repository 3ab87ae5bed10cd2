"""The number of a registry change, read without reading the rest."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from schemas.registry_changes import PlanChange
from services.messages.registry_changes import UnreadableChangeError, number_of


def test_it_is_the_number_that_the_message_says():
    said = PlanChange(seq=7, changed_at=datetime(2026, 11, 20, tzinfo=UTC), org_id="acme", plans=())
    assert number_of(said.model_dump_json(by_alias=True).encode()) == 7


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"seq": "7"}', b'{"seq": 0.5}', b'{"seq": 7', b"\xff"])
def test_what_cannot_be_read_is_refused_in_the_same_words(payload: bytes):
    with pytest.raises(UnreadableChangeError, match="registry change"):
        number_of(payload)
