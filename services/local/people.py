"""Whom one can be in the console of a stack for development, and the tokens that make one so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from services.local.dev_tokens import sign_token, token_claims

_LIFETIME = timedelta(days=30)


class Person(NamedTuple):
    """Somebody, and what a token says of them; ``org_id`` ``*``: of every organization."""

    name: str
    about: str
    """What this one may do, in a few words."""
    user_id: str
    org_id: str
    role: str | None = None
    teams: Mapping[str, str] = {}
    scope: str = ""


def personas(people: Iterable[Person], key_file: Path, now: datetime) -> list[dict[str, str]]:
    """The people as the console reads them, each with a token that is good for 30 days from ``now``."""
    return [
        {"name": each.name, "about": each.about, "token": sign_token(key_file, _claims(each, now))} for each in people
    ]


def _claims(person: Person, now: datetime) -> dict[str, object]:
    claims = token_claims(person.user_id, person.scope, issued_at=now, lifetime=_LIFETIME, org_id=person.org_id)
    return claims | ({"org_role": person.role} if person.role else {}) | {"teams": dict(person.teams)}
