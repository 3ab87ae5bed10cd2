"""If-Match, as RFC 9110 has it."""

from __future__ import annotations

import pytest

from services.key_registry.rules.preconditions import entity_tag, expected_by
from services.key_registry.rules.refusals import Code
from services.runtime.refusals import Refusal


@pytest.mark.parametrize("header", [None, "*", " * ", '"7"', '"6", "7"', '"6" ,"7"', 'W/"6","7"', '"odd!","7"'])
def test_a_state_that_was_seen(header: str | None) -> None:
    expected_by(header).require(7)


@pytest.mark.parametrize("header", ['"6"', 'W/"7"', '"6", "8"', '""', '"77"'])
def test_a_state_that_was_not_seen(header: str) -> None:
    with pytest.raises(Refusal) as refused:
        expected_by(header).require(7)
    assert refused.value.code is Code.PRECONDITION_FAILED


@pytest.mark.parametrize("header", ["7", "", '"7', '"6" "7"', '"7",', '*, "7"', "'7'", '"7\x00"', '"é"'])
def test_what_is_no_entity_tag(header: str) -> None:
    with pytest.raises(Refusal) as refused:
        expected_by(header)
    assert (refused.value.code, refused.value.field) == (Code.INVALID_REQUEST, "If-Match")


def test_a_tag_is_quoted() -> None:
    assert entity_tag(7) == '"7"'
