"""If-Match (RFC 9110, section 13.1.1): a change is made only if nobody made another since the caller looked.

The entity tag of a credential counts what admins change: label, being switched on, key, end. That a key was used or
checked, or stands behind another, is no change. The tag of a plan is the number of its last change in the log.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from services.key_registry.rules.refusals import Code
from services.runtime.refusals import Refusal

_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')
_LIST = re.compile(rf"\s*{_TAG.pattern}\s*(?:,\s*{_TAG.pattern}\s*)*")


class Expected(NamedTuple):
    """The states of which the caller says that it has seen one; ``tags`` of None is any."""

    tags: frozenset[str] | None = None

    def require(self, revision: int) -> None:
        """Raise Refusal ``precondition_failed`` unless ``revision`` is one of them."""
        if self.tags is not None and entity_tag(revision) not in self.tags:
            raise Refusal(
                Code.PRECONDITION_FAILED,
                "It was changed since you looked: get it again, and decide anew.",
            )


ANY = Expected()


def entity_tag(revision: int) -> str:
    """The strong entity tag of a state."""
    return f'"{revision}"'


def expected_by(if_match: str | None) -> Expected:
    """What the header If-Match says; without it any state will do. Raises Refusal where it is not one."""
    if if_match is None or if_match.strip() == "*":
        return ANY
    if _LIST.fullmatch(if_match) is None:
        raise Refusal(Code.INVALID_REQUEST, 'must be "*" or entity tags in double quotes', field="If-Match")
    # A weak tag never matches here (RFC 9110, section 8.8.3.2): ours are strong, so it equals none of them.
    return Expected(frozenset(_TAG.findall(if_match)))
