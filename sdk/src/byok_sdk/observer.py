"""What records the calls that hooks tell of: each once, and no failure of ours reaches whoever made the call."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from byok_sdk.errors import ByokError
from byok_sdk.observed import Observed, Tags, observed_event

_log = logging.getLogger("byok_sdk")

_current: ContextVar[Tags | None] = ContextVar("byok_sdk_tags", default=None)

_REMEMBERED = 10_000
"""Calls of which is known that they were recorded. Whoever tells twice does so within seconds."""


@contextmanager
def tagged(tags: Tags) -> Iterator[None]:
    """Calls of models that are made within are those of ``tags`` (``run.tags``), for hooks that are told no others."""
    token = _current.set(tags)
    try:
        yield
    finally:
        _current.reset(token)


def current_tags() -> Tags:
    """The tags of here and now; none outside of ``tagged``."""
    return _current.get() or {}


class Observer:
    """Records what hooks tell of. Any thread may use it."""

    def __init__(self, record: Callable[[bytes], None], source: str) -> None:
        """``record`` returns when an event is on disk."""
        self._record, self._source = record, source
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, None] = OrderedDict()
        self.not_recorded = 0
        """How many calls were told of in vain: their usage could not be read, or not be kept."""

    def see(self, describe: Callable[[], Observed | None], *, once: Hashable = None) -> bool:
        """Record the call that ``describe`` describes, unless it is None or was recorded before; whether it was.

        ``once`` identifies the call before it is described. Nothing is raised: what goes wrong is logged and counted,
        and the same call may be told of again.
        """
        taken: list[Hashable] = []
        try:
            if once is not None and not self._take(once, taken):
                return False
            observed = describe()
            if observed is None:
                return False
            event_id, body = observed_event(observed, self._source)
            if not self._take(event_id, taken):
                return False
            self._record(body)
        except Exception as error:  # noqa: BLE001 - the call was answered, and its answer is its caller's
            self._failed(error, taken)
            return False
        return True

    def _take(self, key: Hashable, taken: list[Hashable]) -> bool:
        with self._lock:
            if key in self._known:
                return False
            self._known[key] = None
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        taken.append(key)
        return True

    def _failed(self, error: Exception, taken: list[Hashable]) -> None:
        with self._lock:
            self.not_recorded += 1
            for key in taken:
                self._known.pop(key, None)
        # Texts of other packages may hold a key or a prompt; ours do not.
        why = str(error) if isinstance(error, ByokError) else type(error).__name__
        _log.error("a call of a model is not recorded: %s", why)
