"""The demo's check of the ledger finds whatever differs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.dead_letters import Reason
from services.cli.demo.check import differences, expected_columns, fate_differences
from services.cli.demo.company import directory
from services.cli.demo.delivery import Expectation
from services.cli.demo.figures import Progress
from services.domain.usage import EventType, Identity, UsageEvent
from services.key_registry.model_aliases import packaged_aliases
from services.key_registry.rate_cards import packaged_cards

AT = datetime(2026, 11, 2, 12, tzinfo=UTC)
KNOWN = directory(AT, [document.parse() for document in packaged_cards()], packaged_aliases(), [])
EVENT = UsageEvent("nightowl", "s", "1", EventType.TOOL_CALL, AT, "nia", tool="slack_post", calls=2)


@pytest.fixture
def expectation() -> Expectation:
    expectation = Expectation()
    expectation.recorded[EVENT.identity] = EVENT
    expectation.duplicates = 2
    expectation.dead_letters[Reason.INVALID_EVENT] = 3
    return expectation


def booked(**changes: Any) -> dict[Identity, dict[str, Any]]:
    return {EVENT.identity: expected_columns(EVENT, KNOWN) | {"entry_id": "x"} | changes}


def test_agreement_is_no_difference(expectation: Expectation) -> None:
    assert differences(expectation, booked(), KNOWN) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("charged_mc", 1), ("saved_mc", -1), ("reason", "no_credential"), ("flags", ["x"]), ("rate_card", "2026-04-27")],
)
def test_any_other_value_is_named(expectation: Expectation, name: str, value: object) -> None:
    (found,) = differences(expectation, booked(**{name: value}), KNOWN)
    assert name in found


def test_missing_and_unexpected_entries_are_differences(expectation: Expectation) -> None:
    assert differences(expectation, {}, KNOWN) == ["1 of nightowl is not booked"]
    more = booked() | {Identity("other", "s", "9"): {}}
    assert differences(expectation, more, KNOWN) == ["9 of other is booked, but was never sent"]


def test_counts_are_compared_reason_by_reason(expectation: Expectation) -> None:
    assert fate_differences(expectation, Progress(6, 1, 2, 3), {"invalid_event": 3}) == []
    found = fate_differences(expectation, Progress(6, 1, 1, 4), {"invalid_event": 3, "malformed_json": 1})
    assert found == ["dead letters malformed_json: 1 in the ledger, 0 sent", "duplicates: 1 in the ledger, 2 sent"]
