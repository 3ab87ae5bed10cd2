"""A key in memory that shows itself only to who asks for it by name."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """Wraps a key. It is not printed, not compared by its text, not pickled and not copied."""

    __slots__ = ("__key",)

    def __init__(self, key: str) -> None:
        """The key itself."""
        self.__key = key

    def reveal(self) -> str:
        """The key, for the call of the provider."""
        return self.__key

    def __repr__(self) -> str:
        """Nothing of the key."""
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        """Nothing of the key."""
        return repr(self)

    def __reduce__(self) -> NoReturn:
        """Refused: what is pickled lies on a disk, or in a queue."""
        raise TypeError("a key is not pickled or copied")
