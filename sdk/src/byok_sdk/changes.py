"""Following what changes of keys and plans, so that leases are dropped at once (docs/contract.md, section 8).

Pure: it says what to ask next and what to drop, and whoever uses it asks, waits and drops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from byok_sdk.delivery import Answer, delays
from byok_sdk.registry_calls import Call, changes_call, document

WAIT_SECONDS = 25.0
_BUSY_SECONDS = 5.0


class Dropped(NamedTuple):
    """Which leases are to be dropped; None stands for all."""

    org_id: str | None = None
    provider: str | None = None


class Heard(NamedTuple):
    """What to do after an answer."""

    drop: tuple[Dropped, ...] = ()
    pause: float = 0.0
    """Seconds until the next question."""


class ChangeFeed:
    """One runner's place in the log of changes."""

    def __init__(self) -> None:
        """It begins where the log ends, before the first lease."""
        self._after: int | None = None
        self._wait = WAIT_SECONDS
        self._delays: Iterator[float] = delays(1.0, 30.0)
        self.trouble: str | None = None
        """Why nothing is heard; leases end by their time alone meanwhile. None where all is well."""

    def question(self) -> Call:
        """What to ask next."""
        return changes_call(self._after, self._wait)

    def hear(self, answer: Answer) -> Heard:
        """What the answer means for the leases there are."""
        told = document(answer)
        if answer.status == 200 and isinstance(told.get("next_after"), int):
            return self._heard(told)
        code = str(told.get("code", ""))
        if code == "ahead_of_log":
            # It is another history now: nothing that was leased under the one before counts.
            self._after = None
            return Heard((Dropped(),))
        if code == "busy":
            self._wait = 0.0
            return Heard(pause=_BUSY_SECONDS)
        return self.lost(f"{answer.status} {code}".strip())

    def lost(self, trouble: str) -> Heard:
        """There was no answer."""
        self.trouble = trouble
        return Heard(pause=next(self._delays))

    def _heard(self, told: Mapping[str, Any]) -> Heard:
        # Between two beginnings anything may have changed; before the first one nothing was leased.
        drop = (Dropped(),) if self._after is None else tuple(_concerned(told.get("changes") or ()))
        pause = _BUSY_SECONDS if self._after is not None and not self._wait and not told.get("more") else 0.0
        self._after = told["next_after"]
        if self.trouble is not None or not self._wait:
            self.trouble, self._delays, self._wait = None, delays(1.0, 30.0), WAIT_SECONDS
        return Heard(drop, pause)


def _concerned(changes: Any) -> Iterator[Dropped]:
    for change in changes:
        match change.get("kind"):
            case "credential":
                # Another key may apply from now on, and a rotation leaves all else as it is.
                yield Dropped(change.get("org_id"), change.get("provider"))
            case "plan":
                yield Dropped(change.get("org_id"))
