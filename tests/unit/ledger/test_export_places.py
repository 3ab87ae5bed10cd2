"""The places of exports are given back, however an export ends."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, contextmanager
from itertools import repeat

import pytest

from services.ledger.export import Contents, Export
from services.ledger.export_response import ExportResponse
from services.ledger.export_slots import ExportSlots
from services.runtime.refusals import Refusal


def busy(slots, org_id):
    with pytest.raises(Refusal) as refusal, slots.taken(org_id):
        pass
    assert refusal.value.retry_seconds
    return refusal.value.code


def test_no_organization_takes_all_places_and_all_together_no_more_than_there_are():
    slots = ExportSlots(most=3, most_of_one=2)
    with ExitStack() as held:
        held.enter_context(slots.taken("acme"))
        held.enter_context(slots.taken("acme"))
        assert busy(slots, "acme") == "busy"
        with slots.taken("globex"):
            assert busy(slots, "initech") == "busy"
        with slots.taken("initech"):
            pass
    with slots.taken("acme"), slots.taken("acme"), slots.taken("globex"):
        pass


@contextmanager
def contents_that_hold(slots):
    with slots.taken("acme"):
        yield Contents(0, repeat(b"x"))


def test_an_export_that_is_never_sent_or_read_is_closed():
    slots = ExportSlots(most=1, most_of_one=1)
    export = Export(contents_that_hold(slots))
    assert busy(slots, "acme") == "busy"
    export.close()
    export.close()
    with slots.taken("acme"):
        pass


@pytest.mark.parametrize("ending", ["cancelled", "gone", "failed", "too long"])
def test_a_response_that_waits_in_send_gives_its_place_back(ending):
    slots = ExportSlots(most=1, most_of_one=1)
    sent = []

    async def scenario():
        waits = asyncio.Event()

        async def send(message):
            sent.append(message)
            if len(sent) == 3:
                waits.set()
                if ending == "failed":
                    raise ConnectionResetError
                await asyncio.Event().wait()

        async def receive():
            await (waits if ending == "gone" else asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        seconds_max = 0.1 if ending == "too long" else 1000
        export = Export(contents_that_hold(slots))
        response = ExportResponse(export, seconds_max=seconds_max, media_type="text/csv", filename="f")
        task = asyncio.create_task(response({"type": "http"}, receive, send))
        await waits.wait()
        if ending == "cancelled":
            task.cancel()
        await asyncio.wait({task})
        return task

    task = asyncio.run(scenario())
    assert task.cancelled() == (ending == "cancelled")
    # The last message is never the one that says it is whole.
    assert all(message.get("more_body", True) for message in sent)
    with slots.taken("acme"):
        pass
