"""The thread that hands events to the ledger: one for each meter of a process, for as long as it takes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import httpx

from byok_sdk.delivery import (
    BATCH_BYTES_MAX,
    BATCH_EVENTS_MAX,
    RESENT_CODES,
    Answer,
    Settle,
    Split,
    Wait,
    Waiting,
    delays,
    request_body,
    verdict,
)
from byok_sdk.errors import NotRecordedError
from byok_sdk.forking import no_fork, trace
from byok_sdk.settings import Settings
from byok_sdk.slots import Slot, existing, try_take
from byok_sdk.spool import Spool

_log = logging.getLogger("byok_sdk")


class Sender:
    """Sends what waits in its own spool, and now and then what dead processes left in theirs."""

    def __init__(self, settings: Settings, slot: Slot, spool: Spool) -> None:
        """It begins with ``start``."""
        self._settings = settings
        self._slot, self._spool = slot, spool
        self._stopping = threading.Event()
        self._delays = delays()
        self._next_look = time.monotonic() + settings.adopt_seconds
        self._thread = threading.Thread(target=self._run, name="byok-sdk-sender", daemon=True)
        self.trouble: str | None = None
        """Why nothing could be sent last; None where all is well."""

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """End, at once; whether the thread has ended within ``seconds``."""
        self._stopping.set()
        self._spool.wake()
        if self._thread.ident is None:
            return True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._patiently(self._serve)

    def _serve(self) -> None:
        with no_fork():
            client = httpx.Client(timeout=self._settings.timeout_seconds, follow_redirects=False)
        with client:
            while not self._stopping.is_set():
                self._turn(client)

    def _turn(self, client: httpx.Client) -> None:
        seen = self._spool.added
        if self._send_once(client, self._spool):
            return
        self._look_around(client)
        until_look = max(0.0, self._next_look - time.monotonic())
        if self._spool.wait(until_look, lambda: self._stopping.is_set() or self._spool.added != seen):
            # Who records one event mostly records more.
            self._stopping.wait(self._settings.linger_seconds)

    def _patiently(self, work: Callable[[], None]) -> None:
        """Do it; whatever fails is tried again, for an event that nobody sends is lost all the same."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, events are not left alone with it
            self._pause(Wait(f"{type(error).__name__}: {error}"))
            if not isinstance(error, NotRecordedError):
                _log.exception("the sender of usage events goes on after an error")

    def _look_around(self, client: httpx.Client) -> None:
        """Send what dead processes left, and again what was refused for a reason that may be over."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self._settings.adopt_seconds
        self._spool.put_back(RESENT_CODES, older_than=self._settings.resend_seconds)
        for orphan in self._orphans():
            while not self._stopping.is_set() and self._send_once(client, orphan):
                continue

    def _orphans(self) -> Iterator[Spool]:
        """The spools of slots that nobody holds, each held while it is looked at."""
        for number, _ in existing(self._settings.spool_dir):
            if self._stopping.is_set():
                return
            slot = None if number == self._slot.number else try_take(self._settings.spool_dir, number)
            if slot is None:
                continue
            try:
                spool = Spool(slot.path, durability=self._settings.durability)
            except NotRecordedError as error:
                _log.error("%s", error)
                slot.release()
                continue
            try:
                yield spool
            finally:
                spool.close()
                slot.release()

    def _send_once(self, client: httpx.Client, spool: Spool) -> bool:
        """Send one batch; whether there was one."""
        batch = spool.due(BATCH_EVENTS_MAX, BATCH_BYTES_MAX - len(b"[]"))
        if batch:
            self._send(client, spool, batch)
        return bool(batch)

    def _send(self, client: httpx.Client, spool: Spool, batch: list[Waiting]) -> None:
        answer = self._post(client, batch)
        match answer if isinstance(answer, Wait) else verdict(answer, batch):
            case Settle(acknowledged, rejected, held, held_seconds):
                spool.settle(acknowledged, rejected)
                if held:
                    spool.hold(held, held_seconds)
                for each in rejected:
                    _log.error("an event was refused, and is set aside: %s %s", each.code, each.detail)
                self._recovered()
            case Split():
                middle = len(batch) // 2
                self._send(client, spool, batch[:middle])
                self._send(client, spool, batch[middle:])
            case Wait() as wait:
                self._pause(wait)

    def _post(self, client: httpx.Client, batch: list[Waiting]) -> Answer | Wait:
        url = f"{self._settings.ledger_url.rstrip('/')}/v1/usage-events"
        headers = self._settings.headers() | {"Content-Type": "application/cloudevents-batch+json"}
        try:
            answer = client.post(url, content=request_body(batch), headers=headers, extensions={"trace": trace})
        except httpx.HTTPError as error:
            return Wait(f"the ledger does not answer: {type(error).__name__}")
        return Answer(answer.status_code, answer.content, answer.headers.get("Retry-After"))

    def _pause(self, wait: Wait) -> None:
        if wait.trouble != self.trouble:
            _log.warning("usage events wait: %s", wait.trouble)
        self.trouble = wait.trouble
        self._stopping.wait(max(wait.seconds, next(self._delays)))

    def _recovered(self) -> None:
        if self.trouble is not None:
            self.trouble = None
            self._delays = delays()
