"""What the SDK raises. None of its texts holds a key, or anything of a prompt or an answer."""

from __future__ import annotations


class ByokError(Exception):
    """The base of all errors of this package."""


class SettingsError(ByokError):
    """A setting is missing or wrong; the text names it."""


# --- keys -------------------------------------------------------------------------------------------------------------


class RegistryError(ByokError):
    """The key registry gave no lease."""


class RegistryAwayError(RegistryError):
    """It does not answer, or cannot answer now, and no lease that was taken before may serve any longer."""

    def __init__(self, detail: str, *, code: str = "", retry_after: float | None = None) -> None:
        """``code`` is the registry's, where it gave one; ``retry_after`` seconds it asked to wait."""
        super().__init__(f"the key registry gave no lease: {detail}")
        self.code = code
        self.retry_after = retry_after


class RegistryRefusedError(RegistryError):
    """It refuses what was asked: a token without the scope ``credentials:lease``, another organization's, a bad id."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        """As in the registry's problem document."""
        super().__init__(f"the key registry refused it ({status} {code}): {detail}")
        self.status = status
        self.code = code


class NoOwnKeyError(RegistryError):
    """No key of the customer's own applies, and the runner asked for nothing else (``otherwise="raise"``)."""

    def __init__(self, provider: str, reason: str) -> None:
        """``reason`` is one of docs/contract.md, section 4."""
        super().__init__(f'no key of their own applies for {provider}: {reason}; otherwise="platform" takes ours')
        self.reason = reason


# --- usage ------------------------------------------------------------------------------------------------------------


class UsageError(ByokError):
    """An answer's usage cannot be read for sure. The text names the fields; nothing was recorded."""


class UsageMissingError(UsageError):
    """A stream ended, or was cut, and said nothing of what it used; say it with ``act.usage``."""


class InvalidEventError(ByokError):
    """What was to be recorded is no event; the text names the field. Nothing was recorded."""


class StepTakenError(ByokError):
    """Two acts of one run have the same key: their events would be one, so the second is refused before its call."""


class ActNotRecordedError(ByokError):
    """An act ended without an error and without usage; ``act.nothing()`` says that no model was called."""

    def __init__(self) -> None:
        """There is one text."""
        super().__init__("the act ended without usage; act.nothing() says that no model was called")


# --- the spool --------------------------------------------------------------------------------------------------------


class NotRecordedError(ByokError):
    """The event is not on disk: the disk is full or fails. The act is *not* recorded; its caller has to decide."""


class SpoolFullError(NotRecordedError):
    """As many events wait, or were set aside, as the spool may hold."""


class ClosedError(ByokError):
    """The meter was closed before."""
