"""What runners are answered beside leases, and what they say of keys."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from schemas.registry_changes import CredentialChange, PlanChange
from services.key_registry.log.reading import ChangePage, Notice


class NoticeDocument(BaseModel):
    """That something changed which moves no lease: a `rate_card`, or other names of models (`model_aliases`)."""

    seq: int
    kind: str
    changed_at: datetime
    name: str = Field(description="The card's; of other names of models their provider's.")


class ReportedDocument(BaseModel):
    """What became of a report."""

    credential_id: str
    kept: bool = Field(
        description="Whether it is shown of the key now: false where something newer is known, the same was said within"
        " the minute before, or another key has been rotated in since."
    )


class ChangesDocument(BaseModel):
    """Changes in the order of the log, credentials and plans with their whole history and without secrets."""

    model_config = ConfigDict(serialize_by_alias=True)

    changes: list[CredentialChange | PlanChange | NoticeDocument]
    next_after: int = Field(description="To go on with, also where nothing is new.")
    more: bool = Field(description="There is more already: ask again at once.")


def changes_document(page: ChangePage) -> ChangesDocument:
    """A page of changes as it is answered."""
    changes = [NoticeDocument(**change._asdict()) if isinstance(change, Notice) else change for change in page.changes]
    return ChangesDocument(changes=changes, next_after=page.next_after, more=page.more)
