"""An event is priced by its own time, however late or early it comes and whichever clock it was read from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.e2e.running import Stack, node_call

_TICK = timedelta(microseconds=1)


def test_events_that_are_weeks_late_get_the_price_of_their_time(stack: Stack) -> None:
    """The plan and the key have changed since."""
    now = datetime.now(UTC)
    org_id = stack.new_organization("pro", since=(now - timedelta(weeks=5)).isoformat())
    credential_id = stack.add_key(org_id, "personal", "ada", "anthropic", since=(now - timedelta(weeks=4)).isoformat())
    stack.registry.delete(f"/v1/credentials/{credential_id}").raise_for_status()
    stack.set_plan(org_id, "free")
    weeks = {"1-before-the-plan": 6, "2-before-the-key": 4.5, "3-with-the-key": 3, "4-yesterday": 1 / 7, "5-now": 0}
    late = {name: datetime.now(UTC) - timedelta(weeks=ago) for name, ago in weeks.items()}
    events = [node_call(org_id, id=name, time=at.isoformat()) for name, at in late.items()]
    stack.publish(*reversed(events))
    reasons = {name: entry["reason"] for name, entry in stack.settled(org_id, len(events)).items()}
    assert reasons == {
        "1-before-the-plan": "plan_not_entitled",
        "2-before-the-key": "no_credential",
        "3-with-the-key": "personal_key",
        "4-yesterday": "personal_key",
        "5-now": "plan_not_entitled",
    }


def test_a_key_deleted_and_added_again_within_a_second_leaves_each_instant_its_own_key(stack: Stack) -> None:
    org_id = stack.new_organization("pro")
    began = datetime.now(UTC)
    keys = []
    for _ in range(3):
        keys.append(stack.add_key(org_id, "personal", "ada", "anthropic"))
        stack.registry.delete(f"/v1/credentials/{keys[-1]}").raise_for_status()
    keys.append(stack.add_key(org_id, "personal", "ada", "anthropic"))
    times: list[tuple[datetime, str | None]] = [(began - _TICK, None)]
    ends = []
    for key in keys:
        (active,) = stack.registry.get(f"/v1/credentials/{key}").json()["active"]
        start = datetime.fromisoformat(active["from"])
        times.append((start, key))
        if active["to"] is not None:
            end = datetime.fromisoformat(active["to"])
            times += [(end - _TICK, key), (end, None)]
            ends.append((end, start))
    assert all(start < end for end, start in ends)
    # The instant at which one ends may be the one at which the next begins.
    expected = dict(times)
    events = [node_call(org_id, id=at.isoformat(), time=at.isoformat()) for at in reversed(expected)]
    stack.publish(*events)
    found = stack.settled(org_id, len(events))
    assert {name: entry["credential_id"] for name, entry in found.items()} == {
        at.isoformat(): key for at, key in expected.items()
    }


def test_a_key_switched_off_and_on_leaves_the_time_between_to_the_platform_and_a_rotation_moves_no_price(
    stack: Stack,
) -> None:
    org_id = stack.new_organization("pro")
    key = stack.add_key(org_id, "personal", "ada", "anthropic")
    path = f"/v1/credentials/{key}"
    # The registry has answered, and metering may not have heard of it yet; then the first word would be another.
    stack.settle()
    began = datetime.now(UTC)
    # Booked with what is known by then, and to be corrected: all of it is before the changes are.
    stack.publish(node_call(org_id, id="sent-before", time=(began + timedelta(minutes=4)).isoformat()))
    assert [entry["reason"] for entry in stack.entries(org_id, 1)] == ["personal_key"]
    stack.registry.patch(path, json={"enabled": False}).raise_for_status()
    stack.registry.post(f"{path}/rotate", json={"api_key": "made-up-key-to-rotate-in"}).raise_for_status()
    stack.registry.patch(path, json={"enabled": True}).raise_for_status()
    stack.registry.post(f"{path}/rotate/undo").raise_for_status()
    first, second = stack.registry.get(path).json()["active"]
    start, off, on = (datetime.fromisoformat(at) for at in (first["from"], first["to"], second["from"]))
    expected = {start - _TICK: None, start: key, off - _TICK: key, off: None, on - _TICK: None, on: key}
    stack.publish(*(node_call(org_id, id=at.isoformat(), time=at.isoformat()) for at in expected))
    stack.registry.patch(path, json={"enabled": False}).raise_for_status()
    found = stack.settled(org_id, 1 + len(expected))
    assert found.pop("sent-before")["reason"] == "no_credential"
    assert {name: entry["credential_id"] for name, entry in found.items()} == {
        at.isoformat(): credential for at, credential in expected.items()
    }


def test_clocks_may_differ_by_minutes_and_the_event_says_when_it_was(stack: Stack) -> None:
    """A runner's clock that is fast by less than five minutes costs nobody an event; one in another zone, no cent."""
    org_id = stack.new_organization("pro")
    fast = datetime.now(UTC) + timedelta(minutes=4)
    zone = datetime.fromisoformat("2026-11-05T23:30:00-11:00")
    stack.add_key(org_id, "personal", "ada", "anthropic", since="2026-11-06T10:30:00Z")
    stack.publish(
        node_call(org_id, id="1-fast", time=fast.isoformat()),
        node_call(org_id, id="2-zone", time=zone.isoformat()),
        node_call(org_id, id="3-zone-a-tick-before", time=(zone - _TICK).isoformat()),
    )
    found = stack.settled(org_id, 3)
    assert found["1-fast"]["occurred_at"] == fast
    assert [entry["reason"] for entry in found.values()] == ["personal_key", "personal_key", "no_credential"]


def test_equal_times_in_any_order_of_arrival_get_equal_prices(stack: Stack) -> None:
    """Events at the very instant of a change, sent before it is known, with it, and after."""
    org_id = stack.new_organization("pro")
    at = datetime.now(UTC) - timedelta(days=1)
    stack.publish(*(node_call(org_id, id=f"before-{number}", time=at.isoformat()) for number in range(3)))
    stack.entries(org_id, 3)
    stack.add_key(org_id, "personal", "ada", "anthropic", since=at.isoformat())
    stack.publish(*(node_call(org_id, id=f"after-{number}", time=at.isoformat()) for number in range(3)))
    found = stack.settled(org_id, 3 + 3)
    assert {entry["charged_mc"] for entry in found.values()} == {1_000_000}
    assert len(found) == 6
