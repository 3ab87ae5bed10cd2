"""What a registry lets be changed and leased, by what is known of its database."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.key_registry.rules.completeness import Completeness, LogBehindError, LogUnconfirmedError

BEHIND = LogBehindError("it ends with change 4, and the topic has change 6")


def known(*events: Callable[[Completeness], None]) -> Completeness:
    """What is known after these events."""
    completeness = Completeness()
    for event in events:
        event(completeness)
    return completeness


def deny(completeness: Completeness) -> None:
    completeness.deny(BEHIND)


@pytest.mark.parametrize(
    "completeness",
    [
        known(Completeness.confirm),
        known(Completeness.presume),
        known(deny, Completeness.confirm),
        known(Completeness.confirm, Completeness.doubt, Completeness.confirm),
    ],
)
def test_one_that_lacks_nothing_changes_and_leases(completeness: Completeness) -> None:
    completeness.require_for_change()
    completeness.require_for_lease()
    assert completeness.is_confirmed
    assert completeness.unready() is None


@pytest.mark.parametrize("completeness", [known(), known(Completeness.confirm, Completeness.doubt)])
def test_one_of_which_nobody_knows_changes_nothing_and_leases(completeness: Completeness) -> None:
    with pytest.raises(LogUnconfirmedError):
        completeness.require_for_change()
    completeness.require_for_lease()
    assert not completeness.is_confirmed
    assert completeness.unready() is None


@pytest.mark.parametrize(
    "completeness",
    [
        known(deny),
        known(Completeness.confirm, deny),
        known(deny, Completeness.presume),
        known(deny, Completeness.doubt),
    ],
)
def test_one_that_is_behind_does_neither_until_it_is_compared_again(completeness: Completeness) -> None:
    with pytest.raises(LogBehindError):
        completeness.require_for_change()
    with pytest.raises(LogBehindError):
        completeness.require_for_lease()
    assert completeness.unready() == str(BEHIND)
