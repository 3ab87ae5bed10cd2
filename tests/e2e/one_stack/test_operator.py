"""The operator's commands against a running stack, as they are typed: `byok … --data-dir DIR`."""

from __future__ import annotations

import json
import subprocess
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from services.key_registry.model_aliases import packaged_aliases
from services.key_registry.rate_cards import packaged_cards
from services.local.embedded.postgres import SUPERUSER
from tests.e2e.running import Stack, node_call, start_stack, token_usage
from tests.patience import wait_for
from tests.typed import typed

LONG_AGO = "2026-05-01T00:00:00Z"


def byok(stack: Stack, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    """What the command does with the settings of the stack's data directory."""
    done = typed(*arguments, "--data-dir", stack.data_dir)
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def said(stack: Stack, *arguments: str, status: int = 0) -> Any:
    return json.loads(byok(stack, *arguments, "--json", status=status).stdout)


def corrected(stack: Stack) -> str:
    """An organization whose two entries were put right by a key that came late."""
    org_id = stack.new_organization("pro")
    stack.settle()
    stack.publish(node_call(org_id, id="call"), token_usage(org_id, id="tokens"))
    stack.entries(org_id, 2)
    stack.add_key(org_id, "personal", "ada", "anthropic", since=LONG_AGO)
    stack.entries(org_id, 6)
    stack.settle()
    return org_id


def test_verify_finds_no_difference_after_corrections(stack: Stack) -> None:
    org_id = corrected(stack)
    whole = said(stack, "verify")
    assert (whole["differences"], whole["first"]) == (0, [])
    assert whole["entries"] >= 6
    assert whole["ranges"] > 0
    own = said(stack, "verify", "--org", org_id)
    assert (own["entries"], own["revised_events"], own["differences"]) == (6, 2, 0)


def test_explain_says_what_an_entry_follows_from(stack: Stack) -> None:
    org_id = corrected(stack)
    last = next(entry for entry in stack.entries(org_id) if entry["kind"] == "correction")
    text = " ".join(byok(stack, "explain", str(last["entry_id"])).stdout.split())
    for part in ("personal_key", "own key: 1 credits × 1 calls", "caused by registry change", "derived again the same"):
        assert part in text
    receipt = said(stack, "explain", str(last["entry_id"]))
    assert receipt["evidence"]["agrees"] is True
    assert "404 not_found" in byok(stack, "explain", str(uuid.uuid4()), status=1).stderr
    assert "entry id" in byok(stack, "explain", "no-uuid", status=2).stderr
    runner = stack.told["tokens"]["runner"]
    assert byok(stack, "explain", str(last["entry_id"]), "--token", runner, status=1).stdout == ""


def test_quote_says_what_a_call_would_cost(stack: Stack) -> None:
    org_id = corrected(stack)
    asked = ("quote", "--org", org_id, "--user", "ada", "--provider", "anthropic", "--model", "claude-sonnet-4-6")
    assert said(stack, *asked)["node_call"]["charged_mc"] == 1_000_000
    text = " ".join(byok(stack, *asked, "--calls", "2", "--input-tokens", "1000").stdout.split())
    assert "list 40 credits − charged 2 credits = saved 38 credits" in text
    assert "unpriced_model" in byok(stack, *asked[:-1], "nope", status=1).stderr


def test_kek_status_counts_what_is_under_which_key(stack: Stack) -> None:
    corrected(stack)
    counted = said(stack, "kek", "status")
    (kek_id,) = counted["secrets"]
    assert (counted["active"], counted["missing"]) == (kek_id, [])
    assert counted["secrets"][kek_id] >= 1
    assert "active" in byok(stack, "kek", "status").stdout


@pytest.mark.slow
def test_a_dead_letter_is_booked_once_a_card_knows_its_model(tmp_path: Path) -> None:
    # A stack of its own: a new card prices everybody's events anew.
    with start_stack(tmp_path / "stack") as stack:
        org_id = stack.new_organization("pro")
        stack.settle()
        stack.publish(token_usage(org_id, id="known"))
        stack.entries(org_id, 1)
        unknown = node_call(org_id, id="unknown", data={"model": "brand-new-1"})
        place = stack.publish(unknown, node_call(org_id, id="b-neighbour"), unknown)
        pasted = stack.publish(node_call(org_id, id="pasted", data={"model": "sk-ant-made-up-made-up-made-up"}))
        broken = stack.send(b"{", org_id)
        # Ids are opaque, and this one has the shape of a key.
        ids = {"user_id": "sk-bratislava-office-7", "model": "brand-new-1"}
        opaque = node_call(org_id, id="opaque", data=ids)
        hidden = stack.publish(opaque)
        (first, _again) = stack.dead_letters(place, 2)
        (masked,), (malformed,) = stack.dead_letters(pasted), stack.dead_letters(broken)
        (kept_aside,) = stack.dead_letters(hidden)

        listed = byok(stack, "dead-letters", "list", "--json", "--reason", "unpriced_model", "--org", org_id).stdout
        assert [json.loads(line)["event_id"] for line in listed.splitlines()] == [
            *("opaque", "pasted", "unknown", "unknown")
        ]
        shown = said(stack, "dead-letters", "show", str(first["dead_letter_id"]))
        assert (json.loads(shown["payload"]), shown["replay"]) == (unknown, True)
        assert "malformed_json" in byok(stack, "dead-letters", "list").stdout
        shown = said(stack, "dead-letters", "show", str(kept_aside["dead_letter_id"]))
        assert (shown["masked"], shown["replay"], "bratislava" in json.dumps(shown)) == (True, True, False)
        byok(stack, "dead-letters", "show", "999999", status=1)

        replay = ("dead-letters", "replay")
        assert said(stack, *replay, "--dry-run") == {
            "to_send": {"unpriced_model": 2},
            "left": {
                "unpriced_model: says the very same as one before it": 1,
                "unpriced_model: held a key that was masked: its bytes are gone, the producer has to send it anew": 1,
                "malformed_json: is no event: the producer has to send it anew": 1,
            },
            "sent": 0,
            "dry_run": True,
        }
        # Nobody answers the question, so nothing is sent.
        byok(stack, *replay, status=1)
        assert said(stack, *replay, "--yes", "--id", str(masked["dead_letter_id"]), status=1)["sent"] == 0
        assert said(stack, *replay, "--yes", "--id", str(malformed["dead_letter_id"]), status=1)["sent"] == 0

        card = _card_that_knows(tmp_path, "brand-new-1")
        changes = said(stack, "rate-card", "check", str(card))["changes"]
        places = {change["place"] for change in changes}
        assert "models.anthropic.claude-sonnet-4-6.usd.output" in places
        assert all(place.startswith("models.anthropic.") for place in places)
        assert said(stack, *replay, "--priced", "--yes")["to_send"] == {}
        text = " ".join(byok(stack, "rate-card", "publish", str(card), "--dry-run").stdout.split())
        # 200 output tokens at 30 instead of 15 USD per million: 0.003 USD more, 0.6 credits.
        assert "2 entries are booked for its time. 2 would be put right, of which 1 change their price" in text
        assert "list +0.6 credits charged +0.6 credits" in text
        byok(stack, "rate-card", "publish", str(card), status=1)
        published = said(stack, "rate-card", "publish", str(card), "--yes")
        assert (published["published"], published["impact"]["charged_mc"]) == (True, 600_000)
        assert said(stack, "rate-card", "publish", str(card), "--yes")["was_published"] is True
        card.write_text(card.read_text().replace('"30"', '"31"'))
        assert "another content" in byok(stack, "rate-card", "publish", str(card), "--yes", status=1).stderr
        stack.settle()
        # 1,000 input tokens at 3 and 200 output tokens at 30 USD per million: 0.009 USD.
        assert sum(entry["charged_mc"] for entry in stack.entries(org_id) if entry["event_id"] == "known") == 1_800_000

        # Two letters say the same; they are sent once, and booked once.
        (still,) = stack.dead_letters(stack.publish(node_call(org_id, id="still", data={"model": "brand-new-2"})))
        assert still["reason"] == "unpriced_model"
        priced = said(stack, *replay, "--priced", "--yes")
        assert (priced["to_send"], priced["sent"]) == ({"unpriced_model": 2}, 2)
        assert priced["left"] == {
            "unpriced_model: says the very same as one before it": 1,
            "unpriced_model: held a key that was masked: its bytes are gone, the producer has to send it anew": 1,
            "unpriced_model: has no price yet: unpriced_model": 1,
            "malformed_json: was not refused for want of a price": 1,
        }
        booked = wait_for(
            "the replayed event", lambda: [e for e in stack.entries(org_id) if e["event_id"] == "unknown"]
        )
        (named,) = wait_for("the other", lambda: [e for e in stack.entries(org_id) if e["event_id"] == "opaque"])
        assert (named["user_id"], named["charged_mc"]) == ("sk-bratislava-office-7", 30_000_000)
        assert [(entry["kind"], entry["charged_mc"], entry["rate_card"]) for entry in booked] == [
            ("charge", 30_000_000, "after-the-fact")
        ]
        again = said(stack, *replay, "--reason", "unpriced_model", "--yes")
        assert (again["sent"], again["left"]["unpriced_model: is booked meanwhile"]) == (1, 3)
        assert said(stack, *replay, "--priced", "--yes")["sent"] == 0
        # And even what is sent again in spite of that counts once.
        stack.wait_covered(stack.publish(unknown))
        assert [entry["event_id"] for entry in stack.entries(org_id)].count("unknown") == 1

        cards_and_names, plan = len(packaged_cards()) + len(packaged_aliases()), 1
        assert said(stack, "registry-log", "republish")["changes"] == cards_and_names + plan + 1
        whole = said(stack, "verify")
        assert (whole["differences"], whole["first"]) == (0, [])


def _card_that_knows(folder: Path, model: str) -> Path:
    """The newest card with one model more, another price, and in force since an hour ago."""
    newest = packaged_cards()[-1]
    body = json.loads(json.dumps(newest.body))
    models = body["models"]["anthropic"]
    models["claude-sonnet-4-6"]["usd"]["output"] = "30"
    models[model] = models["claude-sonnet-4-6"] | {"tier": "expert"}
    file = folder / "card.json"
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    file.write_text(json.dumps({"card": "after-the-fact", "effective_from": since, "body": body}))
    return file


@pytest.mark.slow
def test_verify_books_the_topic_again_and_comes_to_the_same(stack: Stack) -> None:
    org_id = corrected(stack)
    before = databases(stack)
    again = said(stack, "verify", "--replay")
    assert (again["differences"], again["first"]) == (0, [])
    assert again["ledger"] == again["replay"]
    assert again["events"] >= 2
    assert databases(stack) == before
    assert "events/s" in byok(stack, "verify", "--replay").stdout

    delete = "DELETE FROM ledger.entry WHERE org_id = %s AND revision = 1"
    with superuser(stack, "ledger") as connection:
        connection.execute("SET session_replication_role = replica")
        with connection.transaction(force_rollback=True):
            kept = connection.execute("SELECT * FROM ledger.entry WHERE org_id = %s AND revision = 1", [org_id])
            columns = [column.name for column in kept.description or ()]
            rows = kept.fetchall()
        connection.execute(delete, [org_id])
        try:
            damaged = said(stack, "verify", "--replay", status=1)
        finally:
            # The stack is shared: what was taken away is put back.
            places = ", ".join(["%s"] * len(columns))
            for row in rows:
                connection.execute(f"INSERT INTO ledger.entry ({', '.join(columns)}) VALUES ({places})", row)
    assert damaged["differences"] == 2
    assert damaged["ledger"]["digest"] != damaged["replay"]["digest"]
    assert byok(stack, "verify", "--replay", "--org", org_id, status=2).stdout == ""


def superuser(stack: Stack, database: str) -> psycopg.Connection[Any]:
    password = json.loads((stack.data_dir / "secrets" / "passwords.json").read_text())[SUPERUSER]
    owner = make_conninfo(stack.told["ledger_dsn"], user=SUPERUSER, password=password, dbname=database)
    return psycopg.connect(owner, autocommit=True)


def databases(stack: Stack) -> set[str]:
    with superuser(stack, "postgres") as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
