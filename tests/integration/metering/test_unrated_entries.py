"""What cannot be rated anew is set aside and shown; it holds nobody up, and is put right when a later change allows."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from schemas.registry_changes import ModelAliasesChange, RateCardChange
from services.proof.verify import verify
from tests.integration.metering.ledgers import Ledger
from tests.integration.metering.workers import LONG_AGO, NOW, Worker, cards, key, node_call, plan, publish, rerate
from tests.patience import PATIENCE_SECONDS

_DAY = "2026-11-01T00:00:00Z"


def _card(seq: int, **models: Any) -> RateCardChange:
    """A card that takes the place of the last one, with other prices for some models of openai."""
    body = cards()[1].body  # type: ignore[union-attr]
    listed = {**body["models"], "openai": body["models"]["openai"] | models}
    kept = {name: line for name, line in listed["openai"].items() if line is not None}
    changed = body | {"usd_per_credit": "0.001", "models": listed | {"openai": kept}}
    return RateCardChange(seq=seq, changed_at=NOW, card=f"card-{seq}", effective_from=_DAY, body=changed)


def _line(usd: str) -> dict[str, str]:
    prices = ("input_usd_per_mtok", "cached_input_usd_per_mtok", "output_usd_per_mtok")
    return {"tier": "advanced", **dict.fromkeys(prices, usd)}


def _tokens(event_id: str, model: str = "gpt-5", tokens: int = 10**10, **data: Any) -> dict[str, Any]:
    used = {"agent_id": "a", "provider": "openai", "model": model, "input_tokens": tokens, "output_tokens": 0}
    return node_call(event_id, type="usage.token_usage.v1", data=used | data)


def _unrated(ledger: Ledger) -> list[tuple[str, str, int]]:
    rows = ledger.rows(
        "SELECT event_id, u.reason, u.caused_by_seq FROM ledger.unrated_entry u JOIN ledger.entry USING (entry_id)"
        " ORDER BY event_id"
    )
    return [(row["event_id"], row["reason"], row["caused_by_seq"]) for row in rows]


def _last(ledger: Ledger) -> dict[str, tuple[int, str]]:
    """Of each event the revision and the card of its last entry."""
    return {entry["event_id"]: (entry["revision"], entry["rate_card"]) for entry in ledger.entries()}


def _assert_right(ledger: Ledger, head: int) -> None:
    assert ledger.rows("SELECT seq, rerated_seq FROM ledger.fence") == [{"seq": head, "rerated_seq": head}]
    with psycopg.connect(ledger.owner_dsn) as connection:
        found = verify(connection)
    assert (found.differences, found.first) == (0, [])


def test_a_card_under_which_some_entries_do_not_fit_holds_nobody_up(ledger: Ledger, broker: str, topic: str) -> None:
    async def test() -> None:
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards(), plan(3, "pro"))
        events = [_tokens("too-dear"), _tokens("small", tokens=10), node_call("call"), _tokens("gone", "gpt-4o")]
        await worker.book(publish(broker, topic, 0, *events, _tokens("other", tokens=10, org_id="brio")))
        # Nothing publishes such a card now; this one is in the log from before.
        await worker.learn(_card(4, **{"gpt-5": _line("1000000"), "gpt-4o": None}))
        await asyncio.to_thread(rerate, ledger.dsn)
        right = {"small": (1, "card-4"), "other": (1, "card-4"), "call": (1, "card-4")}
        assert _last(ledger) == right | {"too-dear": (0, "2026-11-01"), "gone": (0, "2026-11-01")}
        assert _unrated(ledger) == [("gone", "no_price", 4), ("too-dear", "no_price", 4)]
        _assert_right(ledger, 4)

        # Other customers' corrections, and its own customer's, do not wait.
        await worker.learn(key(5, (LONG_AGO, None)))
        await asyncio.to_thread(rerate, ledger.dsn)
        assert _last(ledger)["call"] == (2, "card-4")
        assert [entry["charged_mc"] for entry in ledger.entries() if entry["event_id"] == "call"][-1] == 1_000_000

        # The next card for that day prices one of them, the one after it both.
        await worker.learn(_card(6, **{"gpt-4o": None}))
        await asyncio.to_thread(rerate, ledger.dsn)
        assert _last(ledger)["too-dear"] == (1, "card-6")
        assert _unrated(ledger) == [("gone", "no_price", 6)]
        await worker.learn(_card(7))
        await asyncio.to_thread(rerate, ledger.dsn)
        assert _last(ledger)["gone"] == (1, "card-7")
        assert _unrated(ledger) == []
        _assert_right(ledger, 7)
        await worker.stop()

    asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))


def test_another_name_of_a_model_rates_what_stands_without_a_price_and_looks_at_nothing_else(
    ledger: Ledger, broker: str, topic: str
) -> None:
    async def test() -> None:
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards())
        events = [_tokens("gone", "gpt-4o", tokens=10), _tokens("kept", tokens=10)]
        filler = [_tokens(f"f-{number:03}", tokens=10, org_id=f"org-{number % 7}") for number in range(900)]
        await worker.book(publish(broker, topic, 0, events, filler))
        await worker.learn(_card(3, **{"gpt-4o": None}))
        await asyncio.to_thread(rerate, ledger.dsn)
        assert _unrated(ledger) == [("gone", "no_price", 3)]
        names = ModelAliasesChange(seq=4, changed_at=NOW, provider="openai", aliases={"gpt-4o": "gpt-5", "x": "gpt-5"})
        await worker.learn(names)
        with psycopg.connect(ledger.owner_dsn, autocommit=True) as connection:
            connection.execute("ANALYZE ledger.entry")
        looked_at = _looks(ledger)
        await asyncio.to_thread(rerate, ledger.dsn)
        assert _last(ledger) == {event["id"]: (1, "card-3") for event in [*events, *filler]}
        # A name costs what stands unrated, however many entries there are.
        assert _looks(ledger) - looked_at < 100
        assert _unrated(ledger) == []
        _assert_right(ledger, 4)
        await worker.stop()

    asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))


def _looks(ledger: Ledger) -> int:
    """How many entries were fetched by way of the index that lies in the order of time."""
    with psycopg.connect(ledger.owner_dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        row = connection.execute(
            "SELECT idx_tup_read FROM pg_stat_all_indexes WHERE indexrelname = 'entry_by_time'"
        ).fetchone()
    return 0 if row is None else int(row[0])


@pytest.mark.parametrize("code", ["numeric_value_out_of_range", "check_violation"])
def test_a_correction_that_the_database_refuses_is_set_aside_alone(
    code: str, ledger: Ledger, broker: str, topic: str
) -> None:
    async def test() -> None:
        worker = Worker(ledger.dsn, broker, topic)
        await worker.learn(*cards(), plan(3, "pro"))
        await worker.book(publish(broker, topic, 0, [node_call(name) for name in "abcdefg"]))
        ledger.execute(
            f"""CREATE FUNCTION ledger.refuse_row() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{code}'; END $$;
            CREATE TRIGGER refuse_row BEFORE INSERT ON ledger.entry FOR EACH ROW
              WHEN (NEW.event_id IN ('b', 'f') AND NEW.kind = 'correction') EXECUTE FUNCTION ledger.refuse_row()"""
        )
        await worker.learn(key(4, (LONG_AGO, None)))
        await asyncio.to_thread(rerate, ledger.dsn)
        assert {name: revision for name, (revision, _) in _last(ledger).items()} == {
            name: 0 if name in "bf" else 1 for name in "abcdefg"
        }
        assert _unrated(ledger) == [("b", "refused", 4), ("f", "refused", 4)]
        (total,) = ledger.rows("SELECT value FROM ledger.metric_total WHERE metric = 'corrections'")
        assert total["value"] == 5

        ledger.execute("DROP TRIGGER refuse_row ON ledger.entry")
        await worker.learn(plan(5, "enterprise"))
        await asyncio.to_thread(rerate, ledger.dsn)
        assert _unrated(ledger) == []
        assert {revision for revision, _ in _last(ledger).values()} == {1}
        _assert_right(ledger, 5)
        await worker.stop()

    asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))
