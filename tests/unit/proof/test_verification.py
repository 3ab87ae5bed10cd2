"""The verifier finds every kind of tampering with entries, and nothing in a ledger that is right."""

from __future__ import annotations

from uuid import UUID

import pytest

from services.domain.entries import EntryKind, charge, entry_id, reprice
from services.domain.rating import rate
from services.domain.usage import Claim, payload_hash
from services.proof.entries import COLUMNS, Ratings, check_chain
from tests.factories import (
    START,
    card,
    credential,
    directory,
    node_call,
    plan,
    request_usage,
    token_usage,
    tool_call,
    workflow_run,
)

LOG = (card(), plan(), credential("my-key"), credential("org-key", "organization"))
ALL = len(LOG)
EVENTS = (
    node_call(id="node", calls=3),
    token_usage(id="tokens", input_tokens=1_000, cached_input_tokens=400, output_tokens=70),
    token_usage(id="claimed", claim=Claim("my-key")),
    request_usage({"input": 9, "cache_read": 4, "output": 2}, id="unit", is_partial=True, claim=Claim("my-key")),
    tool_call(id="tool", calls=2),
    workflow_run(id="run", parent_run_id="run-0"),
)


def known(upto=ALL):
    return directory(*LOG[1:upto])


def row(entry, caused_by_seq=None):
    """The entry as the table has it."""
    event, what = entry.event, entry.attribution
    said = event._asdict() | entry._asdict() | what._asdict() | entry.quantities._asdict()
    said |= {
        "event_source": event.source,
        "event_id": event.id,
        "event_type": event.type.value,
        "kind": entry.kind.value,
        "flags": list(what.flags),
        "claim_source": None if event.claim is None else "platform" if event.claim.is_platform else "byok",
        "claim_credential_id": None if event.claim is None else event.claim.credential_id,
        "list_mc": what.amounts.list_mc,
        "charged_mc": what.amounts.charged_mc,
        "saved_mc": what.amounts.saved_mc,
        "usage": {unit: count if entry.kind is not EntryKind.REVERSAL else -count for unit, count in event.usage}
        or None,
        "conditions": dict(event.conditions) or None,
        "evidence": {"usage_status": "partial"} if event.is_partial else None,
        "payload_hash": payload_hash(event),
        "caused_by_seq": caused_by_seq,
    }
    return {name: said[name] for name in COLUMNS}


def history(event, *steps):
    """The rows of an event that was charged with the log up to the first step, and put right at each later one."""
    current = charge(event, rate(event, known(steps[0])), steps[0])
    rows = [row(current)]
    for seq in steps[1:]:
        pair = reprice(current, rate(event, known(seq)), seq)
        assert pair is not None
        rows += [row(entry, seq) for entry in pair]
        current = pair[1]
    return rows


def rating_differences(rows, rerated_seq=ALL):
    reversed_ids = {each["adjusts"] for each in rows if each["kind"] == "reversal"}
    marked = [each | {"is_current": each["entry_id"] not in reversed_ids} for each in rows]
    ratings = Ratings(enumerate(LOG, start=1), known(rerated_seq), rerated_seq)
    return list(ratings.check(sorted(marked, key=lambda each: each["registry_seq"])))


def differences(rows, rerated_seq=ALL):
    return rating_differences(rows, rerated_seq) + list(check_chain(rows))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.id)
def test_a_charge_with_full_knowledge_is_right(event):
    assert differences(history(event, 4)) == []


def test_every_revision_is_right():
    assert differences(history(node_call(), 2, 3, 4)) == []


def test_an_entry_that_knows_more_than_is_worked_off_is_held_against_its_own_knowledge_alone():
    assert differences(history(node_call(), 4), rerated_seq=2) == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("list_mc", 1),
        ("charged_mc", 1),
        ("saved_mc", 1),
        ("quantity", 7),
        ("input_tokens", 1_001),
        ("output_tokens", 71),
        ("key_source", "platform"),
        ("byok_scope", "team"),
        ("credential_id", "another-key"),
        ("reason", "no_credential"),
        ("flags", ["platform_fallback"]),
        ("rate_card", "card-0"),
        ("tier", "expert"),
        ("payload_hash", b"h" * 32),
        ("entry_id", UUID(int=1)),
        ("adjusts", UUID(int=1)),
        ("revision", 3),
        ("org_id", "org-2"),
        ("event_source", "another"),
        ("event_id", "another"),
        ("user_id", "another"),
        ("team_id", "another"),
        ("agent_id", "another"),
        ("model", "large"),
        ("claim_source", "platform"),
        ("registry_seq", 3),
        ("occurred_at", START),
        ("event_type", "usage.node_call.v1"),
        ("event_type", "usage.unheard_of.v9"),
        ("priced_model", "large"),
    ],
)
def test_every_column_that_was_altered_is_found(column, value):
    (right,) = history(EVENTS[1], 4)
    (found, *_) = rating_differences([right | {column: value}])
    of_the_id = {"entry_id", "revision", "org_id", "event_source", "event_id"}
    assert found.check in ({"id"} if column in of_the_id else {"rating", "convergence"})


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("usage", {"input": 1}),
        ("conditions", {"region": "us"}),
        ("evidence", {"provider_request_id": "another"}),
        ("evidence", None),
        ("cached_input_tokens", 5),
    ],
)
def test_every_column_of_usage_by_unit_that_was_altered_is_found(column, value):
    (right,) = history(EVENTS[3], 4)
    assert rating_differences([right]) == []
    assert rating_differences([right | {column: value}])


def test_a_difference_names_entry_column_and_both_values():
    (right,) = history(node_call(id="e-7"), 4)
    (found,) = rating_differences([right | {"charged_mc": 5}], rerated_seq=4)
    assert found.check == "rating"
    assert found.place == f"charge {right['entry_id']} of org-1 / runner / e-7"
    assert found.detail == "charged_mc is 5, must be 1000000"


def test_a_change_that_was_taken_out_of_the_log_is_missed():
    (right,) = history(node_call(), 4)
    ratings = Ratings([(1, LOG[0]), (2, LOG[1]), (4, LOG[3])], known(), 4)
    found = [each.detail for each in ratings.check([right | {"is_current": True, "registry_seq": 3}])]
    assert "registry_seq is 3, but the log holds no change of that number" in found


def test_a_change_that_was_not_worked_off_is_found():
    (found,) = rating_differences(history(node_call(), 2))
    assert found.check == "convergence"
    assert "charged_mc is 2000000, must be 1000000" in found.detail


def test_an_entry_that_nothing_can_price_is_found():
    unknown = node_call(model="gone")
    (right,) = history(node_call(), 4)
    (found,) = rating_differences([right | {"model": unknown.model}])
    assert (found.check, "no price" in found.detail) == ("rating", True)


def test_an_entry_whose_model_a_later_card_does_not_list_stands():
    (right,) = history(node_call(), 4)
    full = known()
    full.apply(5, card("card-2", models={}))
    ratings = Ratings(enumerate(LOG, start=1), full, 5)
    assert list(ratings.check([right | {"is_current": True}])) == []
    assert ratings.unpriced == 1


@pytest.mark.parametrize("which", range(5), ids=["charge", *("reversal", "correction") * 2])
def test_an_entry_with_a_foreign_id_is_named_and_so_is_the_id_it_must_have(which):
    rows = history(node_call(id="e-7"), 2, 3, 4)
    derived, foreign = rows[which]["entry_id"], UUID(int=1)
    rows[which] |= {"entry_id": foreign}
    (found,) = [each for each in rating_differences(rows) if each.check == "id"]
    assert found.place == f"{rows[which]['kind']} {foreign} of org-1 / runner / e-7"
    assert str(derived) in found.detail


def without(rows, revision, kind):
    kept = [each for each in rows if (each["revision"], each["kind"]) != (revision, kind)]
    assert len(kept) == len(rows) - 1
    return kept


@pytest.mark.parametrize(
    ("revision", "kind"), [(0, "charge"), (1, "reversal"), (1, "correction"), (2, "reversal"), (2, "correction")]
)
def test_an_entry_that_is_missing_from_a_chain_is_found(revision, kind):
    found = list(check_chain(without(history(node_call(), 2, 3, 4), revision, kind)))
    assert f"revision {revision} has no {kind}" in [each.detail for each in found]


def test_a_correction_that_is_missing_with_its_reversal_is_found():
    rows = history(node_call(), 2, 4)
    assert [each.check for each in differences(rows[:1])] == ["convergence"]


def test_a_charge_that_is_there_twice_is_found():
    rows = history(node_call(), 4)
    assert [each.detail for each in check_chain(rows * 2)] == ["revision 0 has its charge 2 times"]


def test_a_second_charge_under_another_revision_is_found():
    rows = history(node_call(), 4)
    doubled = rows[0] | {"revision": 1, "entry_id": entry_id(node_call().identity, 1, EntryKind.CHARGE)}
    assert "revision 1 must not have a charge" in [each.detail for each in check_chain([*rows, doubled])]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("charged_mc", -1),
        ("list_mc", -1),
        ("quantity", 0),
        ("key_source", "byok"),
        ("reason", "team_key"),
        ("flags", ["platform_fallback"]),
        ("user_id", "another"),
        ("adjusts", UUID(int=1)),
        ("payload_hash", b"h" * 32),
        ("registry_seq", 2),
    ],
)
def test_a_reversal_that_does_not_take_back_exactly_is_found(column, value):
    before, reversal, correction = history(node_call(), 2, 4)
    assert list(check_chain([before, reversal | {column: value}, correction]))


@pytest.mark.parametrize(
    ("column", "value"),
    [("adjusts", UUID(int=1)), ("user_id", "another"), ("registry_seq", 3), ("caused_by_seq", 3)],
)
def test_a_correction_that_does_not_follow_its_charge_is_found(column, value):
    before, reversal, correction = history(node_call(), 2, 4)
    assert list(check_chain([before, reversal, correction | {column: value}]))
