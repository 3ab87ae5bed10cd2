"""Registry changes under load: a thread that adds, ends and backdates keys and plans, and keeps what was answered."""

from __future__ import annotations

import random
import threading
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.faults.usage import FIRST_CARD, ORGANIZATIONS, TEAMS, USERS, Known
from tests.patience import PATIENCE_SECONDS

_PROVIDERS = ("anthropic", "openai", "google")
_WEEKS = timedelta(days=35)


class Answered:
    """What the registry has promised; its log must hold it, whatever was killed since."""

    def __init__(self) -> None:
        self.added: dict[str, dict[str, Any]] = {}
        self.ended: set[str] = set()
        self.requests = 0
        self.unanswered = 0
        """Requests of which nobody knows what became of them."""


class Admins:
    """The thread of those who change keys and plans."""

    def __init__(self, http: httpx.Client, seed: int, known: Known) -> None:
        self.answered = Answered()
        self.failed: list[BaseException] = []
        self._http = http
        self._known = known
        self._rng = random.Random(seed)  # noqa: S311 - a seed that repeats is what is wanted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def prepare(self) -> None:
        """The plans that the organizations begin with; two have keys from the start."""
        for org_id, plan in (("acme", "enterprise"), ("brio", "pro"), ("solo", "free")):
            body = {"plan": plan, "effective_from": "2026-10-01T00:00:00Z"}
            self._http.put(f"/v1/organizations/{org_id}/plan", json=body).raise_for_status()
        for org_id, user in (("acme", "ada"), ("brio", "bob")):
            self._add(org_id, {"type": "personal", "id": user}, "anthropic", None)

    def start(self) -> None:
        """Begin to change things."""
        self._thread.start()

    def finish(self) -> None:
        """Change nothing more."""
        self._stop.set()
        self._thread.join(PATIENCE_SECONDS)
        if self.failed:
            raise AssertionError("the registry could not be changed") from self.failed[0]

    def burst(self) -> None:
        """Several backdated plans at once, each of which moves much of what is booked."""
        for org_id in ("acme", "brio"):
            for plan in self._rng.sample(["free", "pro", "enterprise"], 2):
                self._guarded(lambda org_id=org_id, plan=plan: self._plan(org_id, plan, self._long_ago()))

    def _run(self) -> None:
        kinds = [self._new_key, self._end_key, self._end_and_add_again, self._new_plan]
        try:
            while not self._stop.wait(self._rng.uniform(0.05, 0.35)):
                self._guarded(self._rng.choices(kinds, [5, 2, 2, 2])[0])
        except BaseException as error:  # noqa: BLE001 - told by finish
            self.failed.append(error)

    def _guarded(self, change: Any) -> None:
        self.answered.requests += 1
        try:
            change()
        except httpx.TransportError:
            self.answered.unanswered += 1

    def _long_ago(self) -> datetime:
        # Few different instants, so that changes and events meet on one boundary.
        days = self._rng.randrange(0, _WEEKS.days * 4) / 4
        return (datetime.now(UTC) - timedelta(minutes=1)).replace(minute=0, second=0, microsecond=0) - timedelta(
            days=days
        )

    def _new_key(self) -> None:
        org_id = self._rng.choices(ORGANIZATIONS, [5, 3, 1, 1])[0]
        owners = [("organization", org_id), *(("team", t) for t in TEAMS), *(("personal", u) for u in USERS)]
        kind, owner = self._rng.choice(owners)
        since = self._long_ago() if self._rng.random() < 0.6 else None
        self._add(org_id, {"type": kind, "id": owner}, self._rng.choice(_PROVIDERS), since)

    def _add(self, org_id: str, scope: dict[str, str], provider: str, since: datetime | None) -> None:
        body: dict[str, Any] = {"org_id": org_id, "scope": scope, "provider": provider}
        body["api_key"] = f"sk-test-{uuid.UUID(int=self._rng.getrandbits(128)).hex}"
        if since is not None:
            body["effective_from"] = max(since, FIRST_CARD).isoformat()
        answer = self._http.post("/v1/credentials", json=body)
        if answer.status_code == httpx.codes.CREATED:
            added = answer.json()
            self.answered.added[added["credential_id"]] = added
            self._known.credentials.append(added["credential_id"])
            self._remember(added)
        else:
            _expect_refusal(answer)

    def _end_key(self) -> dict[str, Any] | None:
        living = [credential_id for credential_id in self.answered.added if credential_id not in self.answered.ended]
        if not living:
            return None
        credential_id = self._rng.choice(living)
        answer = self._http.delete(f"/v1/credentials/{credential_id}")
        if answer.status_code != httpx.codes.NO_CONTENT:
            _expect_refusal(answer)
            return None
        self.answered.ended.add(credential_id)
        ended = self._http.get(f"/v1/credentials/{credential_id}").json()
        self._remember(ended)
        return self.answered.added[credential_id]

    def _end_and_add_again(self) -> None:
        """Deleted and added again within a second: two intervals that all but touch."""
        ended = self._end_key()
        if ended is not None:
            self._add(ended["org_id"], ended["scope"], ended["provider"], None)

    def _new_plan(self) -> None:
        org_id = self._rng.choices(ORGANIZATIONS, [4, 4, 1, 1])[0]
        plan = self._rng.choices(["free", "pro", "enterprise"], [1, 3, 4])[0]
        self._plan(org_id, plan, self._long_ago() if self._rng.random() < 0.5 else None)

    def _plan(self, org_id: str, plan: str, since: datetime | None) -> None:
        body = {"plan": plan} | ({} if since is None else {"effective_from": max(since, FIRST_CARD).isoformat()})
        answer = self._http.put(f"/v1/organizations/{org_id}/plan", json=body)
        if answer.is_success:
            for period in answer.json()["plans"]:
                self._known.moments.append(datetime.fromisoformat(period["from"]))
        else:
            _expect_refusal(answer)

    def _remember(self, credential: dict[str, Any]) -> None:
        for active in credential.get("active", []):
            for bound in (active["from"], active["to"]):
                if bound is not None:
                    self._known.moments.append(datetime.fromisoformat(bound))


def _expect_refusal(answer: httpx.Response) -> None:
    """The registry may refuse what a random admin wants, or be away; it may not fail."""
    if answer.status_code not in {403, 404, 409, 422, 503}:
        raise AssertionError(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}")
