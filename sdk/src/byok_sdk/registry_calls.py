"""What is asked of the key registry and what its answers mean, whoever sends them: nothing here waits or sends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from byok_sdk.delivery import Answer
from byok_sdk.errors import RegistryAwayError, RegistryRefusedError
from byok_sdk.events import utc_text
from byok_sdk.leases import Lease, LeaseKey, lease_of
from byok_sdk.settings import Settings

Outcome = Literal["rejected", "exhausted", "accepted"]
"""How a key fared at its provider: not taken (401, 403), its quota used up, or taken."""

_DETAIL_MAX = 200


class Call(NamedTuple):
    """A request to the registry."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] = {}
    patience: float = 0.0
    """How many seconds longer than usual the answer may take."""

    def request(self, settings: Settings) -> dict[str, Any]:
        """What an httpx client, of either kind, is asked with."""
        return {
            "method": self.method,
            "url": settings.registry_url.rstrip("/") + self.path,
            "json": self.body,
            "params": self.query,
            "headers": settings.headers(),
            "timeout": settings.timeout_seconds + self.patience,
        }


def lease_call(key: LeaseKey) -> Call:
    """Ask for the key that applies, with its secret."""
    return Call("POST", "/v1/lease", key.body())


def read_lease(key: LeaseKey, answer: Answer) -> Lease:
    """The lease. Raises RegistryAwayError (ask later, use what there is) or RegistryRefusedError."""
    return lease_of(key, _document(answer))


def report_call(lease: Lease, outcome: Outcome, at: datetime, detail: str | None) -> Call:
    """Say how the key of a lease fared. The key itself is no part of it, wherever the provider repeated it."""
    told = detail
    if told is not None and lease.secret:
        told = told.replace(lease.secret, "…")
    body = {"outcome": outcome, "at": utc_text(at), "leased_at": utc_text(lease.at)}
    if told:
        body["detail"] = told[:_DETAIL_MAX]
    return Call("POST", f"/v1/credentials/{lease.credential_id}/reports", body)


def read_report(answer: Answer) -> bool:
    """Whether it is shown of the key now. Raises as ``read_lease`` does."""
    return bool(_document(answer).get("kept"))


def changes_call(after: int | None, wait: float) -> Call:
    """Ask what changed after a number of the log; without one, where it ends."""
    query = {} if after is None else {"after": str(after)} | ({"wait": f"{wait:g}"} if wait else {})
    return Call("GET", "/v1/changes", None, query, patience=wait)


def _document(answer: Answer) -> dict[str, Any]:
    told = document(answer)
    if answer.status == 200:
        return told
    code, detail = str(told.get("code", "")), str(told.get("detail", ""))
    if 400 <= answer.status < 500 and answer.status not in (408, 425, 429):
        raise RegistryRefusedError(answer.status, code, detail)
    seconds = answer.retry_after
    retry_after = float(seconds) if seconds and seconds.strip().isdigit() else None
    raise RegistryAwayError(f"{answer.status} {code} {detail}".strip(), code=code, retry_after=retry_after)


def document(answer: Answer) -> dict[str, Any]:
    """The answer's JSON object; an empty one where it is none."""
    try:
        told = json.loads(answer.body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
