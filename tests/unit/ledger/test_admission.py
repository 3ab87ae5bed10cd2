"""The door refuses what is certain to be refused and what is one too many, and takes in whatever is not certain."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.registry_changes import RateCardChange
from services.domain.directory import Directory
from services.key_registry.rate_cards import packaged_cards
from services.ledger.admission import Door, KnownCards, unpriced
from services.ledger.usage_batch import UsageRequest, read_events
from services.messages.registry_changes import to_change
from services.runtime.refusals import Refusal

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def directory() -> Directory:
    known = Directory()
    for seq, card in enumerate(packaged_cards(), start=1):
        change = RateCardChange(
            seq=seq, changed_at=NOW, card=card.card, effective_from=card.effective_from, body=card.body
        )
        known.apply(seq, to_change(change))
    return known


def event(event_id: str, *, model: str = "claude-sonnet-4-6", org_id: str = "acme", time: str = "") -> dict[str, Any]:
    data = {"org_id": org_id, "user_id": "ada", "node": "ask_ai", "provider": "anthropic", "model": model}
    envelope = {"specversion": "1.0", "id": event_id, "source": "s", "type": "usage.node_call.v1"}
    return envelope | {"time": time or "2026-11-10T00:00:00Z", "data": data}


def request(*events: dict[str, Any]) -> UsageRequest:
    return read_events(json.dumps(events).encode(), NOW, bytes_max=1_000_000)


class World:
    """What the door is told."""

    def __init__(
        self, known: KnownCards | None, recorded: int | None = 0, waits: Mapping[str, float] | None = None
    ) -> None:
        self._known = known
        self._recorded = recorded
        self._waits = waits or {}

    def known(self) -> KnownCards | None:
        return self._known

    def recorded(self) -> int | None:
        return self._recorded

    def waits(self, org_ids: Collection[str]) -> Mapping[str, float]:
        return {org_id: seconds for org_id, seconds in self._waits.items() if org_id in org_ids}

    @property
    def door(self) -> Door:
        return Door(self, self.recorded, self)


ALL = KnownCards(directory(), seq=7, at=0.0)
UNKNOWN_MODEL = event("e", model="nobody")
BEFORE_EVERY_CARD = event("f", time="2026-01-01T00:00:00Z")


def test_what_has_no_price_is_named_field_by_field() -> None:
    refused = unpriced(request(event("ok"), UNKNOWN_MODEL, BEFORE_EVERY_CARD).accepted, directory())
    assert [(each.source_index, each.rejection.reason, each.rejection.faults[0].field) for each in refused] == [
        (1, "unpriced_model", "data.model"),
        (2, "no_rate_card", "time"),
    ]
    assert "nobody" not in str(refused)


def test_the_good_ones_of_a_request_go_on() -> None:
    admitted = World(ALL, recorded=7).door.admit(request(event("ok"), UNKNOWN_MODEL), unlimited=False)
    assert [each.source_index for each in admitted.accepted] == [0]
    assert [(error["index"], error["code"]) for error in admitted.errors] == [(1, "unpriced_model")]


def test_a_request_of_which_nothing_is_left_is_refused_with_the_first_code() -> None:
    with pytest.raises(Refusal) as refused:
        World(ALL).door.admit(request(BEFORE_EVERY_CARD, UNKNOWN_MODEL), unlimited=True)
    assert refused.value.code == "no_rate_card"


@pytest.mark.parametrize(
    "world",
    [World(None), World(ALL, recorded=8), World(ALL, recorded=None)],
    ids=["the log is not read to its end", "the ledger knows a newer change", "the database is away"],
)
def test_where_a_card_may_be_missing_all_is_taken(world: World) -> None:
    sent = request(UNKNOWN_MODEL, BEFORE_EVERY_CARD)
    assert world.door.admit(sent, unlimited=False) is sent


def test_over_its_quota_an_organization_waits_and_its_neighbours_do_not() -> None:
    door = World(ALL, waits={"bad": 99.2}).door
    admitted = door.admit(request(event("a"), event("b", org_id="bad")), unlimited=False)
    assert [each.event.org_id for each in admitted.accepted] == ["acme"]
    assert [(error["index"], error["code"]) for error in admitted.errors] == [(1, "dead_letter_quota")]
    with pytest.raises(Refusal) as refused:
        door.admit(request(event("b", org_id="bad")), unlimited=False)
    assert (refused.value.code, refused.value.retry_seconds) == ("dead_letter_quota", 100)
    everything = request(event("b", org_id="bad"))
    assert door.admit(everything, unlimited=True) is everything
