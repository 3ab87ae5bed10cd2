"""What the core makes for every event: plain values, which cost a quarter of a tuple with names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import msgspec


class Value(msgspec.Struct, frozen=True, gc=False):
    """An immutable value with named parts: equal, and of equal hash, where all of them are.

    Its parts refer to no value that contains them, so no garbage collector has to look for cycles of values.
    """

    def __iter__(self) -> Iterator[Any]:
        """The parts in their order, to be told apart by their places."""
        return (getattr(self, name) for name in self.__struct_fields__)

    def _replace(self, **changes: Any) -> Self:
        """The value with other parts, as of a tuple with names."""
        return msgspec.structs.replace(self, **changes)

    def _asdict(self) -> dict[str, Any]:
        """The parts by their names, as of a tuple with names."""
        return msgspec.structs.asdict(self)
