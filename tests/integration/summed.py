"""Entries of every kind, questions of every kind about their sums, and what Python comes to, entry by entry."""

from __future__ import annotations

import uuid
from collections import defaultdict
from datetime import datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from psycopg import Connection
from psycopg.rows import dict_row

from services.books.columns import COUNTS, SUMMED
from services.books.roll_ups import SUMS
from services.domain.permissions import Sight
from services.ledger.access import Visible
from services.ledger.database import open_engine
from services.ledger.query import GROUPS, PERIODS, Selection, SummaryQuery
from services.ledger.repository import EntryRepository
from services.metering.sequencer import place_entries

Question = tuple[Selection, list[str], str]
"""Of which entries, in which groups, in which time zone."""

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
_LABELS = {"hour": "%Y-%m-%dT%H:00:00", "day": "%Y-%m-%d", "month": "%Y-%m"}

_VISIBLE = (Visible(everything=True), Visible(False, "ann", ()), Visible(False, "bob", ("red", "blue")))  # noqa: FBT003
_SIGHTS = (Sight(True, True, (), None), Sight(False, False, ("red",), "ann"))  # noqa: FBT003
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
# Those that roll-ups know come more often.
_GROUPS = (*GROUPS, *PERIODS, "provider", "model", "user_id", "team_id", "kind", "key_source", "priced_model")


def a_time(chance: Random) -> datetime:
    """Near one of the moments, sometimes on the hour."""
    moment, unit = chance.choice(MOMENTS), chance.choice([timedelta(hours=1), timedelta(microseconds=3_600_000_001)])
    return moment + chance.randint(-40, 40) * unit


def a_question(chance: Random) -> Question:
    """About sums, as anybody may ask."""
    names = chance.sample(sorted(_FILTERS), chance.choice([0, 0, 1, 2]))
    filters: dict[str, Any] = {name: chance.choice(_FILTERS[name]) for name in names}
    filters |= {
        name: a_time(chance).isoformat() for name in chance.choice([(), (), ("from",), ("to",), ("from", "to")])
    }
    query = SummaryQuery.model_validate(filters)
    groups = list(dict.fromkeys(chance.choice(_GROUPS) for _ in range(chance.randrange(4))))
    return Selection("acme", query, chance.choice(_VISIBLE), chance.choice(_SIGHTS)), groups, chance.choice(ZONES)


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
    # With the offset of the entry itself: where clocks change within an hour, that of its beginning may be another.
    return at.strftime(_LABELS[name]) + (at.isoformat()[-6:] if name == "hour" else "")


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
        self._feed: list[dict[str, Any]] = []
        self.current: list[dict[str, Any]] = []
        self.repository = EntryRepository(open_engine(service_dsn))

    def book(self, chance: Random) -> None:
        """Some charges; and, in one transaction, some of all that stand are taken back and corrected."""
        charges = [self._charge(chance, a_time(chance)) for _ in range(chance.randrange(12))]
        revised = chance.sample(self.current, min(len(self.current), chance.randrange(4)))
        corrections = [self._correction(chance, one) for one in revised]
        self._insert(self._owner, charges)
        with self._owner.transaction():
            self._insert(self._owner, [self._reversal(one) for one in revised])
            self._insert(self._owner, corrections)
        self.current = [one for one in self.current if one not in revised] + corrections + charges

    def book_around_clock_changes(self) -> None:
        """A charge at every quarter of an hour around each of the moments."""
        chance = Random(2)  # noqa: S311 - a seed that repeats is what is wanted
        quarters = [timedelta(minutes=15) * count for count in range(-12, 13)]
        charges = [self._charge(chance, moment + quarter) for moment in MOMENTS for quarter in quarters]
        self._insert(self._owner, charges)
        self.current += charges

    def begin(self, chance: Random, connection: Connection[Any]) -> None:
        """Some charges, in a transaction that is left open."""
        self._insert(connection, [self._charge(chance, a_time(chance)) for _ in range(chance.randint(1, 12))])

    def _charge(self, chance: Random, at: datetime) -> dict[str, Any]:
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
            "event_id": str(uuid.uuid4()),
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

    @staticmethod
    def _insert(connection: Connection[Any], rows: list[dict[str, Any]]) -> None:
        if rows:
            each = f"({', '.join(['%s'] * len(rows[0]))})"
            values = [value for row in rows for value in row.values()]
            statement = f"INSERT INTO ledger.entry ({', '.join(rows[0])}) VALUES {', '.join([each] * len(rows))}"
            connection.execute(statement, values)

    def place(self, most: int) -> int:
        return place_entries(self._service, most=most)

    def rows(self, query: str) -> list[dict[str, Any]]:
        return self._owner.execute(query).fetchall()

    def entries(self, upto: int) -> list[dict[str, Any]]:
        """The feed up to a position. What was read before stays as it is."""
        last = self._feed[-1]["position"] if self._feed else 0
        after = "SELECT * FROM ledger.entry_feed WHERE position > %s ORDER BY position"
        self._feed += self._owner.execute(after, (last,)).fetchall()
        return [entry for entry in self._feed if entry["position"] <= upto]

    def check(self, question: Question) -> None:
        """What the repository answers is what Python comes to, of the entries up to the position that it says."""
        selection, groups, tz = question
        position, rows = self.repository.sums(selection, groups, tz, most=100_000)
        assert answered(rows, groups) == expected(self.entries(position), selection, groups, tz), (position, question)
