"""What the operator's commands share, and what they make of files and dead letters; no stack needed."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import typer

from services.cli.rate_card.differences import changes, overview
from services.cli.rate_card.document import in_force_before, read_document
from services.cli.receipt import quote_lines, receipt_lines
from services.cli.terminal import counting, explained, stack_environment
from services.key_registry.rate_cards import CardDocument, packaged_cards
from services.messages.rate_cards import publishable
from services.metering.dead_letters.resend import DeadLetterSummary, why_not
from services.runtime.command_failed import AWAY, USAGE, CommandFailed

NEWEST = packaged_cards()[-1]


def _dear():
    """A body under which the largest event would not fit into the ledger."""
    line = NEWEST.body["models"]["openai"]["gpt-5"] | {"usd": {"input": "1", "output": "1000000"}}
    return NEWEST.body | {"usd_per_credit": "0.001", "models": {"openai": {"gpt-5": line}}}


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def data_dir(tmp_path):
    (tmp_path / "d" / "secrets").mkdir(parents=True)
    (tmp_path / "d" / "secrets" / "env").write_text("BYOK_LEDGER_DSN='of the stack'\nBYOK_ENV=development\n")
    return tmp_path / "d"


def test_a_stack_that_is_named_is_used_alone(data_dir):
    found = stack_environment({"BYOK_LEDGER_DSN": "mine", "BYOK_KAFKA_BOOTSTRAP": "mine", "HOME": "/"}, data_dir)
    assert found == {"BYOK_LEDGER_DSN": "of the stack", "BYOK_ENV": "development"}


def test_the_environment_counts_where_no_stack_is_named(data_dir, monkeypatch):
    data_dir.rename(data_dir.with_name(".byok"))
    monkeypatch.chdir(data_dir.parent)
    assert stack_environment({"BYOK_LEDGER_DSN": "mine", "HOME": "/"}, None) == {"BYOK_LEDGER_DSN": "mine"}
    # Without any setting it is the stack that was started here; a token is no setting.
    assert stack_environment({"BYOK_TOKEN": "t"}, None)["BYOK_LEDGER_DSN"] == "of the stack"


def test_a_directory_that_no_stack_was_started_in_is_refused(tmp_path):
    with pytest.raises(CommandFailed, match="byok up"):
        stack_environment({}, tmp_path)
    assert stack_environment({}, None) == {}


# --- errors -----------------------------------------------------------------------------------------------------------


def _errors():
    import psycopg
    from kafka.errors import KafkaTimeoutError
    from sqlalchemy.exc import OperationalError, ProgrammingError

    from services.runtime.settings import SettingsError

    yield SettingsError("BYOK_LEDGER_DSN is not set"), USAGE, "BYOK_LEDGER_DSN"
    yield CommandFailed("no such card", 1), 1, "no such card"
    yield psycopg.OperationalError("connection refused\nmore"), AWAY, "is it running"
    yield OperationalError("SELECT 1", {}, psycopg.OperationalError("connection refused")), AWAY, "connection refused"
    yield psycopg.errors.UndefinedTable("relation"), USAGE, "byok db upgrade"
    yield ProgrammingError("SELECT 1", {}, psycopg.errors.UndefinedTable("relation")), USAGE, "byok db upgrade"
    yield ProgrammingError("SELECT 1", {}, psycopg.errors.InsufficientPrivilege("no")), AWAY, "refuses: no"
    yield psycopg.errors.InsufficientPrivilege("permission denied"), AWAY, "permission denied"
    yield KafkaTimeoutError(), AWAY, "BYOK_KAFKA_BOOTSTRAP"


@pytest.mark.parametrize(("error", "status", "part"), list(_errors()), ids=lambda value: type(value).__name__)
def test_what_ends_a_command_has_a_status_and_says_what_to_do(error, status, part, capsys):
    with pytest.raises(typer.Exit) as ended, explained("some command"):
        raise error
    assert ended.value.exit_code == status
    said = capsys.readouterr().err
    assert said.startswith("byok some command: ")
    assert part in said
    assert said.count("\n") == 1


def test_a_bug_is_not_explained_away():
    with pytest.raises(ZeroDivisionError), explained("some command"):
        raise ZeroDivisionError


# --- rate cards -------------------------------------------------------------------------------------------------------


def card_file(folder, **replaced):
    document = {"card": "new", "effective_from": "2027-01-01T01:00:00+01:00", "body": NEWEST.body} | replaced
    file = folder / "card.json"
    file.write_text(json.dumps(document))
    return file


def test_a_card_is_read_with_its_start_in_utc(tmp_path):
    document = read_document(card_file(tmp_path))
    assert document == CardDocument("new", datetime(2027, 1, 1, tzinfo=UTC), NEWEST.body)
    assert document.parse() == publishable("new", document.effective_from, NEWEST.body)


@pytest.mark.parametrize(
    ("replaced", "part"),
    [
        ({"effective_from": "2027-01-01T00:00:00"}, "effective_from: must be an RFC 3339 time with an offset"),
        ({"effective_from": "soon"}, "effective_from: must be an RFC 3339 time with an offset"),
        ({"effective_from": 2027}, "effective_from: must be an RFC 3339 time as a string"),
        ({"body": {}}, "body.tiers: is missing"),
        ({"body": NEWEST.body | {"tool_cal": {}}}, "body.tool_cal: is no place of a rate card; did you mean tool_call"),
        ({"effective_til": "x"}, "effective_til: is no place of a rate card; did you mean effective_from"),
        ({"body": NEWEST.body | {"usd_per_credit": 0.005}}, "body.usd_per_credit"),
        ({"body": _dear()}, r"body\.models\.openai\.gpt-5: 10,000,000,000 tokens in and as many out, .* cost"),
        ({"card": ""}, "card: "),
        ({"body": NEWEST.body | {"tiers": NEWEST.body["tiers"] | {"x" * 1_000_000: 1}}}, "at most 900,000"),
    ],
)
def test_a_card_that_cannot_be_published_is_refused_with_the_place(tmp_path, replaced, part):
    with pytest.raises(CommandFailed, match=part) as refused:
        read_document(card_file(tmp_path, **replaced))
    assert refused.value.status == 1


def test_a_file_that_is_not_there_or_no_json_is_refused(tmp_path):
    with pytest.raises(CommandFailed, match="No such file"):
        read_document(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(CommandFailed, match="is not JSON"):
        read_document(tmp_path / "broken.json")
    (tmp_path / "card.json").write_text('{"card": "new"}')
    with pytest.raises(CommandFailed, match="effective_from: is missing"):
        read_document(tmp_path / "card.json")


def test_a_card_is_held_against_the_one_in_force_at_its_date():
    first, second, _third = packaged_cards()
    new = CardDocument("new", datetime(2026, 10, 31, tzinfo=UTC), {})
    assert in_force_before(new, packaged_cards()) == first
    assert in_force_before(new._replace(effective_from=second.effective_from), packaged_cards()) == second
    assert in_force_before(new._replace(effective_from=datetime(2026, 1, 1, tzinfo=UTC)), packaged_cards()) is None
    # A card is not held against itself, however it was edited.
    assert in_force_before(second, packaged_cards()) == first
    assert in_force_before(second._replace(body={}), packaged_cards()) == first


def test_of_cards_with_one_date_a_new_card_is_held_against_the_last_published():
    day, later = datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC)
    one, other, last = (CardDocument(name, day, {}) for name in ("z", "y", "x"))
    published = [*packaged_cards(), one, CardDocument("later", later, {}), other]
    assert in_force_before(CardDocument("new", day, {}), published) == other
    # What is published already keeps its place: it followed the one before it, whatever came after it.
    assert in_force_before(other, published) == one
    assert in_force_before(one, [*published, last]) == packaged_cards()[-1]


def test_changes_name_the_place_and_both_values():
    before = {"tiers": {"a": 1, "b": 2}, "list": [1], "empty": {}}
    after = {"tiers": {"a": 1, "b": 3, "c": 4}, "list": [2], "empty": {"x": 1}}
    assert [(each.place, each.before, each.after) for each in changes(before, after)] == [
        ("empty", {}, None),
        ("empty.x", None, 1),
        ("list", [1], [2]),
        ("tiers.b", 2, 3),
        ("tiers.c", None, 4),
    ]
    assert changes(before, before) == []
    assert [each.place for each in changes({}, {"models": {}})] == ["models"]


def test_the_largest_changes_of_each_provider_are_told_and_what_is_gone():
    before = {
        "tiers": {"low": 2},
        "own_key": {"providers": ["x"], "charge": True},
        "models": {
            "x": {"old": {"price": "1"}, "o-1.5": {"price": "4", "tier": "low"}, "m": {"price": "2", "free": 0}},
            "y": {},
        },
    }
    after = {
        "tiers": {"low": 3},
        "own_key": {"providers": ["x", "y"], "charge": False},
        "models": {
            "x": {"o-1.5": {"price": "5", "tier": "high"}, "m": {"price": "0.5", "free": 1}, "n": {"price": "1"}},
            "y": {"n" * 200: {"price": "1"}},
        },
    }
    assert overview(before, after, 30) == [
        "besides models: 3 changed",
        "  own_key.charge  true → false",
        '  own_key.providers  ["x"] → ["x", "y"]',
        "  tiers.low  2 → 3 (+50 %)",
        "models of x: 1 new, 1 gone, 2 changed",
        "  gone: old",
        "  m.free  0 → 1",
        "  o-1.5.tier  low → high",
        "  m.price  2 → 0.5 (-75 %)",
        "  o-1.5.price  4 → 5 (+25 %)",
        "models of y: 1 new",
    ]
    assert overview(before, after, 7)[-3:] == [
        "models of x: 1 new, 1 gone, 2 changed",
        "  gone: old",
        "models of y: 1 new",
    ]
    assert overview(before, after, 2) == ["besides models: 3 changed", "and 7 changes of 2 more providers"]
    assert overview(before, before, 30) == []
    longest = {"models": {"x": {"n" * 200: {"price": "1"}}}}
    assert [len(line) for line in overview(longest, {"models": {"x": {"n" * 200: {"price": "2"}}}}, 9)] == [22, 100]


# --- dead letters -----------------------------------------------------------------------------------------------------


def letter(reason, *, masked=False, booked=False, whole_bytes=None, has_event=False):
    at = datetime(2026, 11, 1, tzinfo=UTC)
    place = ("t", 0, 0, 0)
    return DeadLetterSummary(1, reason, "", at, "acme", "s", "a", None, *place, masked, whole_bytes, has_event, booked)


@pytest.mark.parametrize(
    ("dead", "force", "part"),
    [
        (letter("unpriced_model"), False, None),
        (letter("no_rate_card"), False, None),
        (letter("time_in_future"), False, None),
        (letter("invalid_event"), False, None),
        (letter("malformed_json"), False, "no event"),
        (letter("malformed_json"), True, None),
        (letter("batch_too_large"), False, "no event"),
        (letter("identity_conflict", booked=True), False, "conflict again"),
        (letter("identity_conflict", booked=True), True, None),
        (letter("unpriced_model", booked=True), False, "booked meanwhile"),
        (letter("unpriced_model", booked=True), True, "booked meanwhile"),
        (letter("unpriced_model", masked=True), True, "masked"),
        (letter("unpriced_model", masked=True, has_event=True), False, None),
        (letter("unpriced_model", whole_bytes=2_000_000), True, "too long"),
        (letter("unpriced_model", whole_bytes=2_000_000, has_event=True), False, None),
        (letter("invalid_event", masked=True, whole_bytes=2_000_000), False, "too long"),
    ],
)
def test_what_is_sent_once_more_and_why_the_rest_is_not(dead, force, part):
    why = why_not(dead, force=force)
    assert why is None if part is None else part in (why or "")


# --- receipts ---------------------------------------------------------------------------------------------------------

ENTRY = {
    "entry_id": "e-1",
    "kind": "charge",
    "revision": 0,
    "event_type": "usage.tool_call.v1",
    "event_id": "a",
    "occurred_at": "2026-11-01T00:00:00Z",
    "user_id": "ada",
    "team_id": None,
    "org_id": "acme",
    "model": None,
    "rate_card": "2026-11-01",
    "byok_scope": None,
    "key_source": "none",
    "reason": "not_model_usage",
    "charged_mc": 1_500_000,
    "provider": None,
}


def test_a_receipt_whose_evidence_is_lost_says_so():
    lines = dict(receipt_lines({"entry": ENTRY, "evidence": {"agrees": False, "problem": "no rate card"}}))
    assert lines["derived again"] == "NOT the same: no rate card"
    assert "model" not in lines


def test_a_receipt_tells_of_claims_flags_and_what_put_it_right():
    cause = {"seq": 7, "key": "plan:acme"}
    answer = {
        "entry": ENTRY,
        "claim": {"source": "byok", "credential_id": "k-1"},
        "flags": ["credential_claim_rejected"],
        "current_entry_id": "e-2",
        "revisions": [ENTRY, ENTRY | {"kind": "reversal"}, ENTRY | {"revision": 1, "caused_by": cause}],
        "evidence": {"agrees": True, "arithmetic": ["1 credit × 1", "list 1"]},
    }
    lines = receipt_lines(answer)
    assert ("claimed", "byok k-1") in lines
    assert ("flags", "credential_claim_rejected") in lines
    assert ("put right by", "e-2") in lines
    assert ("", "list 1") in lines
    assert [text for name, text in lines if name == "revision"] == [
        "0: charged 1.50 with none",
        "1: charged 1.50 with none, caused by registry change 7 (plan:acme)",
    ]


def test_a_quote_without_tokens_leaves_them_out():
    answer = {
        "user_id": "ada",
        "team_id": None,
        "org_id": "acme",
        "provider": "p",
        "model": "m",
        "time": "t",
        "rate_card": {"card": "c"},
        "plan": {"plan": "free", "known": False, "from": None, "to": None},
        "key": {"byok_scope": None, "key_source": "platform", "reason": "plan_not_entitled"},
        "candidates": [],
        "node_call": {"calls": 1, "arithmetic": ["2 credits"]},
        "token_usage": {"input_tokens": 0, "output_tokens": 0, "arithmetic": ["0"]},
    }
    lines = dict(quote_lines(answer))
    assert "tokens" not in lines
    assert lines["1 node calls"] == "2 credits"
    assert lines["plan"] == "free (none known)"


def test_where_no_terminal_is_progress_is_a_line_now_and_then(monkeypatch, capsys):
    now = 100.0
    monkeypatch.setattr("services.cli.terminal.time.monotonic", lambda: now)
    with counting("Counting sheep") as report:
        for done in (1, 2, 3):
            now += 3
            report(done, 4_000)
    assert capsys.readouterr().err == "Counting sheep: 2 of 4,000\n"
