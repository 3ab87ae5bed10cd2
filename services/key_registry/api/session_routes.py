"""Signing out everywhere, over HTTP (docs/contract.md, section 8): each caller for itself alone."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, Field

from services.key_registry.api.callers import Here, Who
from services.key_registry.handlers import sessions
from services.runtime.problems import PROBLEM_ANSWERS

router = APIRouter(prefix="/v1/sessions", responses=PROBLEM_ANSWERS, tags=["sessions"])


class SessionsDocument(BaseModel):
    """Which of the caller's sessions count."""

    ended_before: datetime | None = Field(
        description="Sessions that began before have ended; it only rises. Null: none was ended within 31 days."
    )


@router.get("", summary="Which of one's sessions count")
def get_sessions(here: Here, who: Who) -> SessionsDocument:
    """Of the person or service that the token is of, in its organization. A console looks before it goes on."""
    return SessionsDocument(ended_before=sessions.ended_before(here, who))


@router.post("/end", summary="Sign out everywhere")
def end_sessions(here: Here, who: Who) -> SessionsDocument:
    """Every session of the person or service that the token is of ends. The token itself stays good until its end."""
    return SessionsDocument(ended_before=sessions.end_sessions(here, who))
