"""Metrics equal the committed totals, conservation notices what is missing, and readiness tells the truth."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from services.key_registry.rate_cards import packaged_cards
from services.ledger import conservation
from services.ledger.conservation import ConservationWatch
from services.ledger.database import open_engine
from services.ledger.main import build_app
from services.ledger.metrics import ledger_metrics


def samples(text):
    """What was read from the database; not what this process counts and tells of itself."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.startswith(("byok_door_", "byok_http_", "byok_build_", "process_", "python_"))
    }


@pytest.fixture
def engine(stack, database):
    engine = open_engine(stack.dsn("ledger_service", database))
    yield engine
    engine.dispose()


@pytest.fixture
def watch(engine):
    return ConservationWatch(engine, "byok.usage-events")


def test_totals_are_summed_over_shards_under_the_names_of_the_contract(client, books):
    books.metric("usage_events", 3, shard=0, event_type="usage.node_call.v1", outcome="recorded")
    books.metric("usage_events", 4, shard=7, event_type="usage.node_call.v1", outcome="recorded")
    books.metric("usage_events", 1, event_type="other", outcome="dead_letter")
    priced = {"event_type": "usage.token_usage.v1", "provider": "openai", "key_source": "byok", "byok_scope": "team"}
    for name, value in (("list_mc", 3_500_000), ("charged_mc", 1_000_001), ("saved_mc", 2_499_999)):
        books.metric(name, value, **priced)
    books.metric("list_mc", 5, event_type="usage.tool_call.v1", provider="", key_source="none", byok_scope="")
    books.metric("dead_letters", 2, reason="invalid_event")
    books.metric("credential_flags", 6, flag="platform_fallback")
    books.metric("corrections", 8, reason="team_key")
    books.metric("corrected_mc", 19_000_000, reason="team_key", direction="refund")
    books.metric("not_ours", 1, x="y")
    books.dead_letter("acme", "invalid_event", 1)
    books.dead_letter(None, "malformed_json", 2)
    books.rate_cards()
    found = samples(client.get("/metrics").text)
    found = {name: value for name, value in found.items() if name[0] != "byok_conservation_residual_events"}
    oldest = found.pop(("byok_outbox_oldest_seconds", (("outbox", "dead-letters"),)))
    assert 0 <= oldest < 60
    # The rate cards are known, and nobody re-rates here.
    assert 0 < found.pop(("byok_rerating_oldest_seconds", ())) < 60
    token_labels = tuple(sorted(priced.items()))
    tool_labels = tuple(
        sorted({**dict.fromkeys(priced, ""), "event_type": "usage.tool_call.v1", "key_source": "none"}.items())
    )
    assert found == {
        ("byok_usage_events_total", (("event_type", "usage.node_call.v1"), ("outcome", "recorded"))): 7,
        ("byok_usage_events_total", (("event_type", "other"), ("outcome", "dead_letter"))): 1,
        ("byok_list_credits_total", token_labels): 3.5,
        ("byok_charged_credits_total", token_labels): 1.000001,
        ("byok_saved_credits_total", token_labels): 2.499999,
        ("byok_list_credits_total", tool_labels): 0.000005,
        ("byok_dead_letters_total", (("reason", "invalid_event"),)): 2,
        ("byok_credential_flags_total", (("flag", "platform_fallback"),)): 6,
        ("byok_corrections_total", (("reason", "team_key"),)): 8,
        ("byok_corrected_credits_total", (("direction", "refund"), ("reason", "team_key"))): 19,
        ("byok_registry_seq", (("service", "ledger"),)): len(packaged_cards()),
        ("byok_outbox_pending", (("outbox", "dead-letters"),)): 2,
        ("byok_feed_unplaced_oldest_seconds", ()): 0,
        ("byok_unrated_entries", (("reason", "no_price"),)): 0,
        ("byok_unrated_entries", (("reason", "refused"),)): 0,
    }


def test_entries_that_wait_for_their_places_are_told_by_the_oldest(client, books):
    books.rate_cards()
    for number in range(2):
        books.book(f"e{number}")
    books.connection.execute("UPDATE ledger.entry_batch SET booked_at = now() - interval '1 hour' WHERE batch = 2")
    found = samples(client.get("/metrics").text)
    assert 3_600 <= found["byok_feed_unplaced_oldest_seconds", ()] < 3_700


def test_totals_have_no_limit(client, books):
    labels = {"event_type": "usage.token_usage.v1", "provider": "openai", "key_source": "platform", "byok_scope": ""}
    for shard in range(3):
        books.metric("list_mc", 2**64, shard=shard, **labels)
    found = samples(client.get("/metrics").text)
    assert found["byok_list_credits_total", tuple(sorted(labels.items()))] == 3 * 2**64 / 10**6


def test_entries_that_could_not_be_rated_anew_are_counted_by_reason(client, books):
    books.rate_cards()
    for number, reason in enumerate(("no_price", "no_price", "refused")):
        entry = books.book(f"e{number}")
        books.connection.execute(
            "INSERT INTO ledger.unrated_entry (entry_id, reason, detail, caused_by_seq) VALUES (%s, %s, 'why', 2)",
            [entry.entry_id, reason],
        )
    found = samples(client.get("/metrics").text)
    assert found["byok_unrated_entries", (("reason", "no_price"),)] == 2
    assert found["byok_unrated_entries", (("reason", "refused"),)] == 1


def test_counters_are_typed_as_counters(client, books):
    types = {family.name: family.type for family in text_string_to_metric_families(client.get("/metrics").text)}
    assert types["byok_usage_events"] == types["byok_saved_credits"] == "counter"
    assert types["byok_registry_seq"] == "gauge"


def test_conservation_is_zero_where_all_is_accounted_for(books, watch):
    books.rate_cards()
    watch.look()
    assert watch.residuals == {}
    partition = books.partition(0, next_offset=5)
    for index in range(3):
        books.book(f"e{index}")
    books.covered(partition, 0, 3, recorded=3)
    books.covered(partition, 3, 5, recorded=0, dead=1)
    watch.look()
    assert watch.residuals == {0: 0}
    # A second look counts only what came since.
    books.offset = 5
    books.book("e3")
    books.partition(0, next_offset=7)
    books.covered(partition, 5, 7, recorded=1, dead=1)
    watch.look()
    assert watch.residuals == {0: 0}
    # And does not forget: one more charge than was recorded stays a residual.
    books.offset = 7
    books.book("e4")
    books.partition(0, next_offset=8)
    books.covered(partition, 7, 8, recorded=0, dead=1)
    watch.look()
    watch.look()
    assert watch.residuals == {0: 1}


@pytest.mark.parametrize(
    ("next_offset", "covered_to", "recorded", "residual"),
    [(3, 3, 3, 0), (4, 3, 3, 1), (3, 3, 2, 1), (3, 3, 4, 1), (5, 3, 5, 4)],
)
def test_a_gap_or_a_lost_or_surplus_charge_is_a_residual(books, watch, next_offset, covered_to, recorded, residual):
    books.rate_cards()
    partition = books.partition(4, next_offset=next_offset)
    for index in range(3):
        books.book(f"e{index}")
    books.connection.execute("ALTER TABLE ledger.entry DISABLE TRIGGER USER")
    books.connection.execute("UPDATE ledger.entry SET source_partition_id = %s", [partition])
    books.covered(partition, 0, covered_to, recorded=recorded)
    watch.look()
    assert watch.residuals[4] == residual


CHANGED = {
    "an entry deleted": "DELETE FROM ledger.entry WHERE source_offset = 4",
    "an entry moved": "UPDATE ledger.entry SET source_offset = 99 WHERE source_offset = 0",
    "a range widened": "UPDATE ledger.covered_range SET to_offset = 6 WHERE from_offset = 4",
    "a range that says more": "UPDATE ledger.covered_range SET events = 2, recorded = 2 WHERE from_offset = 2",
    "a range deleted": "DELETE FROM ledger.covered_range WHERE from_offset = 3",
    "the newest range deleted": "DELETE FROM ledger.covered_range WHERE from_offset = 6",
}


@pytest.fixture
def counted(books, watch, monkeypatch):
    """Seven ranges of one event each, all counted; each look counts two of them again."""
    monkeypatch.setattr(conservation, "RECOUNT_SECONDS", 0.0)
    monkeypatch.setattr(conservation, "RECOUNTED_RANGES", 2)
    books.rate_cards()
    partition = books.partition(0, next_offset=7)
    for index in range(7):
        books.book(f"e{index}")
        books.covered(partition, index, index + 1, recorded=1)
    watch.look()
    assert watch.residuals == {0: 0}
    return books.connection


LAP = 4


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_what_is_changed_after_it_was_counted_is_noticed_within_a_lap_and_stays_noticed(counted, watch, change):
    for table in ("entry", "covered_range"):
        counted.execute(f"ALTER TABLE ledger.{table} DISABLE TRIGGER USER")
    counted.execute(change)
    # One lap may be under way already.
    for _ in range(2 * LAP):
        watch.look()
    for _ in range(2 * LAP):
        watch.look()
        assert watch.residuals[0] != 0


def test_what_is_put_right_is_noticed_as_well(counted, watch):
    counted.execute("ALTER TABLE ledger.covered_range DISABLE TRIGGER USER")
    for recorded in (2, 1):
        counted.execute(
            "UPDATE ledger.covered_range SET events = %(n)s, recorded = %(n)s WHERE from_offset = 2", {"n": recorded}
        )
        for _ in range(2 * LAP):
            watch.look()
        assert watch.residuals == {0: recorded - 1}


def test_while_ranges_are_counted_again_new_ones_come(counted, watch, books):
    for index in range(7, 20):
        partition = books.partition(0, next_offset=index + 1)
        books.book(f"e{index}")
        books.covered(partition, index, index + 1, recorded=1)
        watch.look()
        assert watch.residuals == {0: 0}


def merge(connection, start, end):
    connection.execute("SELECT ledger.merge_covered_ranges(1, %s, %s)", (start, end))


def test_ranges_that_are_merged_are_no_residual_wherever_the_counts_stand(counted, watch, books):
    for start, end in ((0, 3), (3, 5), (0, 5)):
        merge(counted, start, end)
        for _ in range(2 * LAP):
            watch.look()
            assert watch.residuals == {0: 0}
    # What was never looked at goes into one range with the newest that was.
    for index in range(7, 9):
        partition = books.partition(0, next_offset=index + 1)
        books.book(f"e{index}")
        books.covered(partition, index, index + 1, recorded=1)
    merge(counted, 5, 9)
    for _ in range(2 * LAP):
        watch.look()
        assert watch.residuals == {0: 0}


MERGED_AND_CHANGED = {name: change for name, change in CHANGED.items() if name.startswith("an entry")} | {
    "a merged range widened": "UPDATE ledger.covered_range SET to_offset = to_offset + 1 WHERE from_offset = 0",
    "a merged range that says more": "UPDATE ledger.covered_range SET events = 9, recorded = 9 WHERE from_offset = 0",
    "a merged range deleted": "DELETE FROM ledger.covered_range WHERE from_offset = 0",
}


@pytest.mark.parametrize("change", MERGED_AND_CHANGED.values(), ids=MERGED_AND_CHANGED)
def test_what_is_changed_after_it_was_merged_is_noticed(counted, watch, change):
    merge(counted, 0, 5)
    watch.look()
    for table in ("entry", "covered_range"):
        counted.execute(f"ALTER TABLE ledger.{table} DISABLE TRIGGER USER")
    counted.execute(change)
    for _ in range(2 * LAP):
        watch.look()
    for _ in range(2 * LAP):
        watch.look()
        assert watch.residuals[0] != 0


def test_a_stretch_that_is_counted_again_is_bounded_in_events_and_in_time(counted, watch, monkeypatch):
    monkeypatch.setattr(conservation, "RECOUNTED_RANGES", 500)
    monkeypatch.setattr(conservation, "RECOUNTED_EVENTS", 1)
    for _ in range(2):
        watch.look()
    counted.execute("ALTER TABLE ledger.entry DISABLE TRIGGER USER")
    counted.execute("DELETE FROM ledger.entry WHERE source_offset = 4")
    noticed = []
    for _ in range(8):
        watch.look()
        noticed.append(watch.residuals[0])
    # One range a look: it is there after as many looks as there are ranges, and not after one.
    assert noticed[0] == 0
    assert noticed[-1] == 1


def test_partitions_of_several_clusters_never_hide_each_other(books, watch):
    for cluster, recorded in (("c1", 1), ("c2", 0)):
        partition_id = books.connection.execute(
            "INSERT INTO ledger.source_partition (cluster_id, topic, partition, origin_offset, next_offset)"
            " VALUES (%s, 'byok.usage-events', 2, 10, 12) RETURNING source_partition_id",
            [cluster],
        ).fetchone()[0]
        books.covered(partition_id, 10, 12, recorded=recorded, dead=1)
    watch.look()
    assert watch.residuals == {2: 1}


def test_while_the_database_is_away_metrics_are_absent_and_readiness_says_so(stack, database, bearer):
    settings = stack.settings(database)
    gone = settings.ledger_dsn.get_secret_value().replace(database, "no_such_database")
    app = build_app(settings.model_copy(update={"ledger_dsn": SecretStr(gone)}))
    with TestClient(app) as client:
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert "database" in ready.json()["missing"]
        assert "of-ledger_service" not in ready.text
        metrics = client.get("/metrics")
        assert metrics.status_code == 200
        assert samples(metrics.text) == {}
        response = client.get("/v1/organizations/a/entries", headers=bearer(scope="ledger:read"))
        assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
        assert client.get("/healthz").status_code == 200


def test_an_unmigrated_database_is_not_ready(client, books):
    books.connection.execute("UPDATE ledger.alembic_version SET version_num = '0000'")
    assert "db upgrade" in client.get("/readyz").json()["missing"]["database"]


def test_a_database_that_a_later_release_upgrades_is_read_on_by_those_that_run_and_by_no_other(
    client, books, stack, database
):
    assert "database" not in client.get("/readyz").json().get("missing", {})
    books.connection.execute("UPDATE ledger.alembic_version SET version_num = '9999'")
    assert "database" not in client.get("/readyz").json().get("missing", {})
    with TestClient(build_app(stack.settings(database))) as another:
        assert "a later release has upgraded it" in another.get("/readyz").json()["missing"]["database"]


def test_the_service_can_write_nothing(engine, books):
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    with engine.connect() as connection, pytest.raises(SQLAlchemyError, match="read-only"):
        connection.execute(text("UPDATE ledger.fence SET seq = 1"))


def test_a_registry_of_metrics_can_be_made_without_a_database():
    engine = open_engine("postgresql://nobody@127.0.0.1:1/none")
    assert ledger_metrics(engine, ConservationWatch(engine, "t")) is not None
