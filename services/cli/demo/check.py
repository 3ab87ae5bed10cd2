"""The demo's own check: every current entry against what the pure core says it must be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.books.entry_rows import attribution_columns, event_columns
from services.books.tables import VIEW
from services.cli.demo.delivery import Expectation
from services.cli.demo.figures import Progress
from services.domain.directory import Directory
from services.domain.entries import attribution
from services.domain.rating import rate
from services.domain.usage import Identity, UsageEvent


def expected_columns(event: UsageEvent, directory: Directory) -> dict[str, Any]:
    """What the view ``ledger.entries`` must say about the event, once everything is known."""
    said = event_columns(event) | attribution_columns(attribution(rate(event, directory)))
    # The view says it also where it is the name that was reported.
    said["priced_model"] = said["priced_model"] or event.model
    return {name: value for name, value in said.items() if name in VIEW}


def differences(
    expectation: Expectation, entries: Mapping[Identity, Mapping[str, Any]], directory: Directory
) -> list[str]:
    """One sentence for each entry that is missing, not expected, or not what the core says."""
    found = [
        f"{identity.id} of {identity.org_id} is booked, but was never sent"
        for identity in entries.keys() - expectation.recorded.keys()
    ]
    for identity, event in expectation.recorded.items():
        entry = entries.get(identity)
        if entry is None:
            found.append(f"{identity.id} of {identity.org_id} is not booked")
            continue
        wrong = [name for name, value in expected_columns(event, directory).items() if entry[name] != value]
        if wrong:
            found.append(f"{identity.id} of {identity.org_id} differs in {', '.join(wrong)}")
    return found


def fate_differences(expectation: Expectation, covered: Progress, dead_letters: Mapping[str, int]) -> list[str]:
    """One sentence for each count that is not what was sent: recorded, duplicates, dead letters by reason."""
    expected: dict[str, int] = {
        "recorded": len(expectation.recorded),
        "duplicates": expectation.duplicates,
        **{f"dead letters {reason}": count for reason, count in expectation.dead_letters.items()},
    }
    booked: dict[str, int] = {
        "recorded": covered.recorded,
        "duplicates": covered.duplicates,
        **{f"dead letters {reason}": count for reason, count in dead_letters.items()},
    }
    return [
        f"{name}: {booked.get(name, 0):,} in the ledger, {expected.get(name, 0):,} sent"
        for name in sorted(expected.keys() | booked.keys())
        if expected.get(name, 0) != booked.get(name, 0)
    ]
