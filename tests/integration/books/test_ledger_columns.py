"""The columns that the code names are those of the database, and each is in one group."""

from __future__ import annotations

from services.books import columns, tables
from services.books.roll_ups import ROLL_UPS, SUMS
from services.ledger.query import GROUPS, PERIODS, Filters
from tests.integration.metering.ledgers import Ledger

_COLUMNS = """
SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
"""


def _names(ledger: Ledger, table: str) -> list[str]:
    return [row["name"] for row in ledger.rows(_COLUMNS, table)]


def test_every_column_of_an_entry_is_in_one_group(ledger: Ledger) -> None:
    named = [*columns.BOOKED, "saved_mc", columns.CAUSE, *columns.PLACE, "recorded_at"]
    assert sorted(named) == sorted(_names(ledger, "ledger.entry"))


def test_every_column_of_a_dead_letter_is_kept_or_the_database_s_own(ledger: Ledger) -> None:
    types = {row["name"]: row["type"] for row in ledger.rows(_COLUMNS, "ledger.dead_letter")}
    own = {"dead_letter_id", "source_partition_id", "failed_at", "relayed_at"}
    assert {name: type_ for name, type_ in types.items() if name not in own} == columns.LETTER


def test_what_one_can_ask_by_are_columns_of_the_view() -> None:
    assert set(GROUPS) - set(PERIODS) <= set(tables.VIEW)
    assert set(Filters.model_fields) - {"from_", "to", "flag", "without"} <= set(tables.VIEW)


def test_a_roll_up_has_its_columns_its_period_and_its_sums(ledger: Ledger) -> None:
    for one in ROLL_UPS:
        assert sorted(_names(ledger, f"ledger.{one.view}")) == sorted((*one.columns, one.period, *SUMS))
        assert set(one.columns) <= set(tables.VIEW)
