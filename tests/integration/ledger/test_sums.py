"""A summary is the sums of the entries up to its position: whoever asks, whatever is grouped by, in whichever zone."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from services.books.columns import COUNTS, SUMMED
from services.books.roll_ups import ROLL_UPS, SUMS
from services.domain.permissions import Sight
from services.ledger.access import Visible
from services.ledger.database import open_engine
from services.ledger.query import GROUPS, PERIODS, Selection, SummaryQuery
from services.ledger.repository import EntryRepository
from services.metering.sequencer import place_entries

# Where hours are cut: by half and by three quarters; where clocks change, by an hour and by half of one; far from UTC.
ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe"),
    *("Pacific/Chatham", "America/St_Johns", "Pacific/Apia", "Etc/GMT+12", "Africa/Casablanca"),
)
# Clocks change in these hours, somewhere; a month and a year end.
MOMENTS = [
    datetime.fromisoformat(text)
    for text in (
        *("2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2026-03-08T07:00:00Z", "2026-11-01T06:00:00Z"),
        *("2026-04-04T15:00:00Z", "2026-10-03T15:30:00Z", "2026-01-01T00:00:00Z", "2026-02-14T18:15:00Z"),
        # At a minute past midnight, St John's went back into the day before.
        *("2010-11-07T02:31:00Z", "2011-12-30T10:00:00Z"),
    )
]
TIMES = st.one_of(
    st.builds(
        lambda moment, off: moment + off,
        st.sampled_from(MOMENTS),
        st.timedeltas(timedelta(hours=-30), timedelta(hours=30)),
    ),
    st.builds(lambda moment, hours: moment + timedelta(hours=hours), st.sampled_from(MOMENTS), st.integers(-40, 40)),
)
_LABELS = {"day": "%Y-%m-%d", "month": "%Y-%m"}


def expected(entries: list[dict[str, Any]], selection: Selection, groups: list[str], tz: str) -> dict[tuple, dict]:
    """The sums by Python alone: entries one by one."""
    found: dict[tuple, dict] = defaultdict(lambda: dict.fromkeys(SUMS, 0))
    if not groups:
        found[()]
    for entry in entries:
        if not _is_meant(entry, selection):
            continue
        sums = found[tuple(_value(entry, name, selection.keys, tz) for name in groups)]
        for name in SUMS:
            sums[name] += (-1 if entry["kind"] == "reversal" else 1) if name == "events" else entry[name]
    return dict(found)


def _is_meant(entry: dict[str, Any], selection: Selection) -> bool:
    filters = selection.filters
    at = entry["occurred_at"]
    if (filters.from_ and at < filters.from_) or (filters.to and at >= filters.to):
        return False
    if filters.flag is not None and filters.flag not in entry["flags"]:
        return False
    if filters.credential_id is not None and not _shows_key(entry, selection.keys):
        return False
    equal = all(entry[name] == value for name, value in filters.equalities().items())
    return equal and entry["org_id"] == selection.org_id and selection.visible.shows(entry["user_id"], entry["team_id"])


def _shows_key(entry: dict[str, Any], keys: Sight) -> bool:
    owner = {"organization": keys.organization, "team": entry["team_id"] in keys.teams}
    return keys.everything or owner.get(entry["byok_scope"], entry["user_id"] == keys.user)


def _value(entry: dict[str, Any], name: str, keys: Sight, tz: str) -> Any:
    if name == "credential_id":
        return entry[name] if entry[name] is not None and _shows_key(entry, keys) else None
    if name not in PERIODS:
        return entry[name]
    at = entry["occurred_at"].astimezone(ZoneInfo(tz))
    if name == "hour":
        return at.replace(minute=0, second=0, microsecond=0).isoformat()
    return at.strftime(_LABELS[name])


def answered(rows: Any, groups: list[str]) -> dict[tuple, dict]:
    """What a summary says, by the values of its groups."""
    return {
        tuple(row[f"group_{index}"] for index in range(len(groups))): {name: int(row[name]) for name in SUMS}
        for row in rows
    }


class Rolled:
    """A ledger to which a test adds, and asks; entries as Python reads them from the feed."""

    def __init__(self, owner_dsn: str, service_dsn: str) -> None:
        self._owner = psycopg.connect(owner_dsn, autocommit=True, row_factory=dict_row)
        self._service = psycopg.connect(service_dsn, autocommit=True)
        self._number = 0
        self.current: list[dict[str, Any]] = []
        self.repository = EntryRepository(open_engine(service_dsn))

    def book(self, chance: Random, at: list[datetime]) -> None:
        """Charges at these times; then, in one transaction, some of all that stand are taken back and corrected."""
        charges = [self._charge(chance, time) for time in at]
        self._insert(charges)
        self.current += charges
        revised = chance.sample(self.current, min(len(self.current), chance.randrange(4)))
        reversals = [self._reversal(one) for one in revised]
        corrections = [self._correction(chance, one) for one in revised]
        self.current = [one for one in self.current if one not in revised] + corrections
        with self._owner.transaction():
            self._insert(reversals)
            self._insert(corrections)

    def _charge(self, chance: Random, at: datetime) -> dict[str, Any]:
        self._number += 1
        counts = {name: chance.choice([0, 1, 7, 10**10]) for name in COUNTS}
        return {
            "entry_id": uuid.uuid4(),
            "kind": "charge",
            "revision": 0,
            "adjusts": None,
            "caused_by_seq": None,
            **dict.fromkeys(("source_partition_id", "source_offset", "source_index"), 1),
            "org_id": chance.choice(["acme", "acme", "other"]),
            "team_id": chance.choice([None, "", "red", "blue"]),
            "user_id": chance.choice(["ann", "bob", "red"]),
            "event_source": "s",
            "event_id": str(self._number),
            "event_type": chance.choice(["usage.node_call.v1", "usage.tool_call.v1"]),
            "occurred_at": at,
            "run_id": chance.choice([None, "r1"]),
            "succeeded": True,
            "provider": chance.choice([None, "openai", "anthropic"]),
            "model": chance.choice([None, "m", "M"]),
            "priced_model": chance.choice([None, "m"]),
            **counts,
            "registry_seq": 1,
            "payload_hash": bytes(32),
            **self._attribution(chance),
        }

    @staticmethod
    def _attribution(chance: Random) -> dict[str, Any]:
        scope = chance.choice([None, "organization", "team", "personal"])
        list_mc, saved_mc = chance.choice([0, 20, 9 * 10**18]), chance.choice([0, 0, 19])
        return {
            "tier": chance.choice([None, "basic"]),
            "key_source": chance.choice(["platform", "none"]) if scope is None else "byok",
            "byok_scope": scope,
            "credential_id": None if scope is None else chance.choice(["k1", "k2"]),
            "reason": chance.choice(["r", "R", '",\\']),
            "flags": chance.choice([[], ["odd"], ["odd", "even"]]),
            "list_mc": list_mc,
            "charged_mc": max(0, list_mc - saved_mc),
            "saved_mc": min(list_mc, saved_mc),
            "rate_card": chance.choice(["2026-05-01", "2026-11-01"]),
        }

    def _reversal(self, old: dict[str, Any]) -> dict[str, Any]:
        negated = {name: -old[name] for name in SUMMED}
        return self._revision(old) | negated | {"kind": "reversal", "adjusts": old["entry_id"]}

    def _correction(self, chance: Random, old: dict[str, Any]) -> dict[str, Any]:
        return self._revision(old) | self._attribution(chance) | {"kind": "correction", "adjusts": old["entry_id"]}

    @staticmethod
    def _revision(old: dict[str, Any]) -> dict[str, Any]:
        none = dict.fromkeys(("source_partition_id", "source_offset", "source_index"))
        return old | none | {"entry_id": uuid.uuid4(), "revision": old["revision"] + 1, "caused_by_seq": 1}

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        if rows:
            each = f"({', '.join(['%s'] * len(rows[0]))})"
            values = [value for row in rows for value in row.values()]
            statement = f"INSERT INTO ledger.entry ({', '.join(rows[0])}) VALUES {', '.join([each] * len(rows))}"
            self._owner.execute(statement, values)

    def place(self, most: int) -> int:
        return place_entries(self._service, most=most)

    def rows(self, query: str) -> list[dict[str, Any]]:
        return self._owner.execute(query).fetchall()

    def entries(self, upto: int) -> list[dict[str, Any]]:
        return self._owner.execute("SELECT * FROM ledger.entry_feed WHERE position <= %s", (upto,)).fetchall()

    def check(self, question: tuple[Selection, list[str], str]) -> None:
        """What the repository answers is what Python comes to, of the entries up to the position that it says."""
        selection, groups, tz = question
        position, rows = self.repository.sums(selection, groups, tz, most=100_000)
        assert answered(rows, groups) == expected(self.entries(position), selection, groups, tz), (position, question)


@pytest.fixture(scope="module")
def rolled(stack: Any) -> Iterator[Rolled]:
    with stack.postgres.connect() as admin:
        admin.execute("CREATE DATABASE rolled TEMPLATE ledger OWNER ledger_owner")
    yield Rolled(stack.dsn("ledger_owner", "rolled"), stack.dsn("ledger_service", "rolled"))
    with stack.postgres.connect() as admin:
        admin.execute("DROP DATABASE rolled WITH (FORCE)")


_VIEWERS = st.sampled_from(
    [Visible(True), Visible(True), Visible(False, "ann", ()), Visible(False, "bob", ("red", "blue"))]  # noqa: FBT003
)
_ROLLED_GROUPS = (
    "hour",
    "day",
    "month",
    "provider",
    "model",
    "user_id",
    "team_id",
    "kind",
    "key_source",
    "priced_model",
)
_FILTERS = {
    "user_id": ["ann", "red"],
    "team_id": ["red"],
    "provider": ["openai"],
    "priced_model": ["m"],
    "key_source": ["byok", "none"],
    "byok_scope": ["team"],
    "kind": ["correction", "reversal"],
    "reason": ["R"],
    "rate_card": ["2026-11-01"],
    "run_id": ["r1"],
    "flag": ["odd"],
    "credential_id": ["k1"],
}


@st.composite
def questions(draw: st.DrawFn) -> tuple[Selection, list[str], str]:
    names = draw(st.lists(st.sampled_from(sorted(_FILTERS)), max_size=2, unique=True))
    filters: dict[str, Any] = {name: draw(st.sampled_from(_FILTERS[name])) for name in names}
    filters |= {name: at.isoformat() for name in ("from", "to") if (at := draw(st.none() | TIMES)) is not None}
    keys = draw(st.sampled_from([Sight(True, True, (), None), Sight(False, False, ("red",), "ann")]))  # noqa: FBT003
    selection = Selection("acme", SummaryQuery.model_validate(filters), draw(_VIEWERS), keys)
    groups = draw(st.lists(st.sampled_from(_ROLLED_GROUPS) | st.sampled_from(GROUPS), max_size=3, unique=True))
    return selection, groups, draw(st.sampled_from(ZONES))


@settings(max_examples=40, deadline=None, phases=[Phase.generate])
@given(
    chance=st.integers(0, 2**32).map(Random),
    at=st.lists(TIMES, max_size=12),
    most=st.integers(1, 30),
    asked=st.lists(questions(), min_size=4, max_size=8),
)
def test_a_summary_is_the_sums_of_the_entries_up_to_its_position(
    rolled: Rolled, chance: Random, at: list[datetime], most: int, asked: list[tuple[Selection, list[str], str]]
) -> None:
    rolled.book(chance, at)
    rolled.place(most)
    for question in asked:
        rolled.check(question)


def test_every_roll_up_is_the_sums_of_the_feed(rolled: Rolled) -> None:
    rolled.book(Random(1), MOMENTS)  # noqa: S311 - a seed that repeats is what is wanted
    while rolled.place(10):
        pass
    for roll_up in ROLL_UPS:
        keys = ", ".join((*roll_up.columns, roll_up.period))
        sums = ", ".join(f"sum({name})" for name in SUMMED)
        begin = f"date_trunc('{roll_up.period}', occurred_at AT TIME ZONE 'UTC')"
        typed = f"{begin} AT TIME ZONE 'UTC'" if roll_up.period == "hour" else f"({begin})::date"
        raw = (
            f"SELECT {keys}, sum(CASE kind WHEN 'reversal' THEN -1 ELSE 1 END), {sums}"
            f" FROM (SELECT *, {typed} AS {roll_up.period} FROM ledger.entry_feed) AS entry GROUP BY {keys}"
        )
        rolled_up = f"SELECT {keys}, {', '.join(SUMS)} FROM ledger.{roll_up.view}"
        for one, other in ((raw, rolled_up), (rolled_up, raw)):
            assert rolled.rows(f"{one} EXCEPT ALL {other}") == [], roll_up.view
