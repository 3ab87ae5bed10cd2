"""The demo's people as the console offers them: one for each thing that somebody can be."""

from __future__ import annotations

from services.local.dev_tokens import ALL_SCOPES
from services.local.people import Person

PEOPLE = (
    Person("Fay of meridian", "admin of an enterprise with keys of its own", "fay", "meridian", "admin"),
    Person("Gus of meridian", "member; admin of the team research", "gus", "meridian", "member", {"research": "admin"}),
    Person(
        "Hal of meridian",
        "member of the team research; the organization's key has taken the place of his own",
        "hal",
        "meridian",
        "member",
        {"research": "member"},
    ),
    Person(
        "Ana of brightside",
        "admin on the Pro plan, in the team growth",
        "ana",
        "brightside",
        "admin",
        {"growth": "admin"},
    ),
    Person(
        "Cleo of brightside",
        "member with a key of her own; admin of the team product",
        "cleo",
        "brightside",
        "member",
        {"product": "admin"},
    ),
    Person(
        "Ben of brightside",
        "member of the team growth, without a key",
        "ben",
        "brightside",
        "member",
        {"growth": "member"},
    ),
    Person("Nia", "a person without a company, on the Free plan", "nia", "nightowl", "admin"),
    Person("Billing", "reads the ledger of every organization", "billing", "*", None, {}, "ledger:read"),
    Person(
        "Operator", "runs the platform: every scope in every organization", "operator", "*", "admin", {}, ALL_SCOPES
    ),
)
