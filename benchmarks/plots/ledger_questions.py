"""What is asked of a ledger that grows, through the ledger service's own repository: milliseconds of each question."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import md5
from statistics import quantiles
from uuid import UUID

from sqlalchemy import Engine

from plots.growing_ledger import LARGE, RUN_ENTRIES
from services.domain.permissions import Sight
from services.ledger.access import Visible
from services.ledger.database import open_engine
from services.ledger.query import Cursor, EntriesQuery, Selection, SummaryQuery, parse_groups
from services.ledger.repository import EntryRepository

_TIMES = 30
_PAGE = 100
_LONGEST_SECONDS = 20
_FIRST_DAY = datetime(2026, 8, 31, tzinfo=UTC)
_ALL = Visible(everything=True)
_EVERY_KEY = Sight(everything=True, organization=True, teams=(), user=None)
_FLAG = "credential_claim_rejected"

Question = Callable[[], object]


class Asked:
    """The questions about a ledger of so many rows, of which one organization has half."""

    def __init__(self, engine: Engine, rows: int, small: str) -> None:
        """``small`` is one of the organizations that do not grow."""
        self._repository = EntryRepository(engine)
        self._rows = rows
        self._small = small
        self._random = random.Random(1)  # noqa: S311

    def filters(self) -> dict[str, Question]:
        """Pages of the large organization's entries, by what an index must find."""
        return {
            "by run": lambda: self._page(LARGE, run_id=self._run()),
            "by an absent run": lambda: self._page(LARGE, run_id="no-such-run"),
            "by a user who is seldom there": lambda: self._page(LARGE, user_id="seldom"),
            "by an absent user": lambda: self._page(LARGE, user_id="nobody"),
            "by flag": lambda: self._page(LARGE, flag=_FLAG),
            "by an absent flag": lambda: self._page(LARGE, flag="organization_key_bypassed"),
        }

    def questions(self) -> dict[str, Question]:
        """All of them."""
        return {
            "the newest page": lambda: self._page(LARGE),
            "a page in the middle": lambda: self._page(LARGE, after=self._cursor()),
            "the newest page of a small organization": lambda: self._page(self._small),
            "by an absent user of a small organization": lambda: self._page(self._small, user_id="nobody"),
            "a receipt's entry": self._entry,
            "a page of the feed": self._feed,
            **{f"a page {name}": ask for name, ask in self.filters().items()},
            "sums: in all": lambda: self._sums(LARGE),
            "sums: by provider": lambda: self._sums(LARGE, group_by="provider"),
            "sums: by day": lambda: self._sums(LARGE, group_by="day"),
            "sums: by user": lambda: self._sums(LARGE, group_by="user_id"),
            "sums: of one run": lambda: self._sums(LARGE, run_id=self._run(), group_by="event_type"),
            "sums: by provider, a small organization": lambda: self._sums(self._small, group_by="provider"),
        }

    def _page(self, org_id: str, after: Cursor | None = None, **filters: str) -> object:
        query = EntriesQuery.model_validate(filters)
        return self._repository.page(Selection(org_id, query, _ALL, _EVERY_KEY), after=after, order="desc", limit=_PAGE)

    def _sums(self, org_id: str, **asked: str) -> object:
        query = SummaryQuery.model_validate(asked)
        selection = Selection(org_id, query, _ALL, _EVERY_KEY)
        return self._repository.sums(selection, parse_groups(query.group_by), query.tz, most=10_001)

    def _run(self) -> str:
        # Runs of an even number are the large organization's.
        number = 2 * self._random.randrange(max(1, self._rows // RUN_ENTRIES // 2))
        return str(UUID(md5(str(number).encode(), usedforsecurity=False).hexdigest()))

    def _cursor(self) -> Cursor:
        at = _FIRST_DAY + timedelta(days=45 + self._random.random(), hours=6)
        return Cursor(at, UUID(int=0), "desc")

    def _entry(self) -> object:
        some = self._repository.feed(self._place(), self._rows, None, most=1)
        return self._repository.entry(some[0]["entry_id"])

    def _feed(self) -> object:
        return self._repository.feed(self._place(), self._rows, None, most=_PAGE)

    def _place(self) -> int:
        return self._random.randrange(self._rows - _PAGE)


@contextmanager
def asked_of(dsn: str, rows: int, small: str) -> Iterator[Asked]:
    """The questions, over connections as the service has them."""
    engine = open_engine(dsn)
    with closing(engine.raw_connection()):
        pass
    try:
        yield Asked(engine, rows, small)
    finally:
        engine.dispose()


def milliseconds(questions: dict[str, Question]) -> dict[str, float]:
    """The median and the 99th percentile of each question, asked for the second time and later."""
    found: dict[str, float] = {}
    for name, ask in questions.items():
        ask()
        times = list(_times(ask))
        cuts = quantiles(times, n=100) if len(times) > 1 else times * 99
        found |= {f"{name} p50, ms": cuts[49], f"{name} p99, ms": max(times)}
    return found


def _times(ask: Question) -> Iterator[float]:
    """Thirty times, fewer where one takes long."""
    deadline = time.monotonic() + _LONGEST_SECONDS
    for _ in range(_TIMES):
        began = time.perf_counter()
        ask()
        yield 1_000 * (time.perf_counter() - began)
        if time.monotonic() > deadline:
            return
