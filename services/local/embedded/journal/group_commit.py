"""One write and one sync of the journal for everybody who waits for one, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from services.local.embedded.journal.journal import Journal
from services.local.embedded.journal.notes import Note
from services.runtime.logs import logger

_log = logger(__name__)


class GroupCommit:
    """The journal as many connections share it. To be made and used in a running event loop."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._waiting: list[tuple[Sequence[Note], asyncio.Future[None]]] = []
        self._wanted = asyncio.Event()

    def write(self, notes: Sequence[Note]) -> asyncio.Future[None]:
        """Write the notes after all that was handed in before; the future fails with OSError when they are not kept."""
        written = asyncio.get_running_loop().create_future()
        # Not everybody waits for the end of it; whoever does hears of the error all the same.
        written.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._waiting.append((notes, written))
        self._wanted.set()
        return written

    async def drop_booked(self, booked: Mapping[int, int]) -> None:
        """Delete the first files of which everything is booked. Raises OSError."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._journal.drop_booked, booked)

    async def run(self) -> None:
        """Write what is handed in, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            group, self._waiting = self._waiting, []
            notes = [note for its_notes, _ in group for note in its_notes]
            error = await self._written(notes)
            for _, written in group:
                if written.cancelled():
                    continue
                if error is None:
                    written.set_result(None)
                else:
                    written.set_exception(error)

    async def _written(self, notes: Sequence[Note]) -> OSError | None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._journal.write, notes)
        except OSError as error:
            _log.error("the journal cannot be written, and no usage record is acknowledged", error=error.strerror)
            return error
        return None
