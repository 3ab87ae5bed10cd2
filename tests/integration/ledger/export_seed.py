"""A company whose ledger has an entry of every kind there is, for exports and statements."""

from __future__ import annotations

from decimal import Decimal

from services.domain.usage import EventType
from tests.integration.ledger.ledger_seed import Books, at, seed_company

# Cards of schema 2 begin on this day: what is priced by unit comes after it.
LATER = 210


def seed_every_kind(books: Books) -> None:
    """On top of ``seed_company``: tokens by unit, what costs nothing, odd names, and one person's use corrected."""
    seed_company(books)
    tokens = {"type": EventType.TOKEN_USAGE, "agent_id": "agent-1"}
    books.book("odd tokens", **tokens, input_tokens=3, cached_input_tokens=1, output_tokens=1, team_id="red")
    books.book("no tokens", **tokens, input_tokens=0, output_tokens=0)
    books.book("failed tool", type=EventType.TOOL_CALL, tool="t", calls=2, succeeded=False)
    books.book("subflow", type=EventType.WORKFLOW_RUN, workflow_id="w1", run_id="r2", parent_run_id="r1")
    books.book(
        "formula", user_id="=1+1", team_id="-2", agent_id="@a", **{k: v for k, v in tokens.items() if k == "type"}
    )
    units = {"type": EventType.TOKEN_USAGE_V2, "agent_id": "agent-2", "occurred_at": at(days=LATER), "team_id": "red"}
    counts = (("cache_read", 333), ("input", 1_001), ("output", 77))
    for number, model in enumerate(("gpt-4.1", "claude-sonnet-4-6", "gemini-2.5-pro")):
        provider = ("openai", "anthropic", "google")[number]
        books.book(f"units {number}", **units, provider=provider, model=model, usage=counts)
    books.book("long", **units, provider="google", model="gemini-2.5-pro", usage=(("input", 250_001), ("output", 3)))
    books.book("none", **units, usage=(("input", 0), ("output", 0)))
    late = [books.book(f"late {n}", user_id="eve", team_id="green", occurred_at=at(days=4 + 30 * n)) for n in range(3)]
    late.append(books.book("late units", **units | {"team_id": "green"}, user_id="eve", usage=counts))
    books.credential("k-eve", "acme", "personal", "eve")
    for entry in late:
        books.correct(entry)


def usd_of_mc(mc: int, usd_micros_per_credit: int = 5_000) -> Decimal:
    """Exact; every card that ships with us sells a credit for 0.005 USD."""
    return Decimal(mc * usd_micros_per_credit).scaleb(-12)
