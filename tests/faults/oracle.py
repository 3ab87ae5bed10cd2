"""The tests' own account: every event priced once with full knowledge, and held against what the ledger says.

It believes what the tests have sent, and the registry's own log; of the ledger it reads rows, nothing derived. Prices
come from the pure core, each event by itself: no batches, no fence, no revisions.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from schemas.topics import USAGE_EVENTS
from services.domain.directory import Directory, directory_of
from services.domain.entries import attribution
from services.domain.rating import rate
from services.domain.usage import Claim, EventType, UsageEvent, tokens_in
from services.messages.registry_changes import read_change, to_change
from tests.faults.admins import Answered
from tests.faults.rig import Rig
from tests.faults.sent import Identity, Sent, Wire

_SUMS = ("list_mc", "charged_mc", "saved_mc", "quantity", "input_tokens", "cached_input_tokens", "output_tokens")
_ATTRIBUTED = ("key_source", "byok_scope", "credential_id", "reason", "rate_card", "tier", "priced_model")


class Finding(NamedTuple):
    """One thing that is not as it should be."""

    kind: str
    what: str


class Verdict(NamedTuple):
    """What came out of one run."""

    events: int
    corrections: int
    findings: tuple[Finding, ...]

    def count(self, kind: str) -> int:
        """How many findings of one kind."""
        return sum(finding.kind == kind for finding in self.findings)


def judge(rig: Rig, sent: Sent, answered: Answered) -> Verdict:
    """Compare the ledger at rest with full knowledge."""
    log = rig.rows("SELECT seq, key, payload FROM registry.log ORDER BY seq", database="registry")
    entries = rig.rows("SELECT * FROM ledger.entry ORDER BY revision, kind DESC")
    findings = [
        *_registry(log, answered, rig.rows("SELECT seq, payload FROM ledger.registry_change ORDER BY seq")),
        *_prices(entries, sent, full_knowledge(log)),
        *_conservation(rig, sent),
        *_totals(rig, entries),
        *_product_says(rig, len(sent.events)),
    ]
    corrections = sum(entry["kind"] == "correction" for entry in entries)
    return Verdict(len(sent.events), corrections, tuple(findings))


def full_knowledge(log: Iterable[dict[str, Any]]) -> Directory:
    """The directory that the registry's own log amounts to."""
    return directory_of((row["seq"], to_change(read_change(bytes(row["payload"])))) for row in log)


def _registry(log: list[dict[str, Any]], answered: Answered, followed: list[dict[str, Any]]) -> Iterable[Finding]:
    """What was answered is in the log, and the log is in the ledger, byte by byte."""
    if [row["seq"] for row in log] != list(range(1, len(log) + 1)):
        yield Finding("lost", "the registry's log has gaps")
    if [(row["seq"], bytes(row["payload"])) for row in log] != [(r["seq"], bytes(r["payload"])) for r in followed]:
        yield Finding("lost", f"the ledger followed {len(followed)} changes, the registry made {len(log)}")
    known = full_knowledge(log)
    for credential_id in answered.added:
        credential = known.credential(credential_id)
        if credential is None:
            yield Finding("lost", f"credential {credential_id} was answered, and is not in the log")
        elif credential_id in answered.ended and credential.active_at(datetime.now(UTC)):
            yield Finding("lost", f"the end of credential {credential_id} was answered, and is not in the log")


def _prices(entries: list[dict[str, Any]], sent: Sent, known: Directory) -> Iterable[Finding]:
    booked: defaultdict[Identity, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        booked[Identity(entry["org_id"], entry["event_source"], entry["event_id"])].append(entry)
    for key, event in sent.events.items():
        rows = booked.pop(key, [])
        if not rows:
            yield Finding("lost", f"{key} was never charged")
        elif sum(row["kind"] == "charge" for row in rows) > 1 or not _is_chain(rows):
            yield Finding("doubled", f"{key} has {[(row['kind'], row['revision']) for row in rows]}")
        elif wrong := _wrong(rows, as_event(event), known):
            yield Finding("wrong", f"{key}: {wrong}; {event}")
    for key in booked:
        yield Finding("doubled", f"{key} was charged, and {'aborted' if key in sent.aborted else 'never sent'}")


def _is_chain(rows: list[dict[str, Any]]) -> bool:
    """A charge, then pairs of reversal and correction, revision by revision."""
    pairs = ((revision, kind) for revision in range(1, len(rows) // 2 + 1) for kind in ("reversal", "correction"))
    return [(row["revision"], row["kind"]) for row in rows] == [(0, "charge"), *pairs]


def _wrong(rows: list[dict[str, Any]], event: UsageEvent, known: Directory) -> str | None:
    """How the entries of one identity differ from its price with full knowledge; None where they do not."""
    should, last = attribution(rate(event, known)), rows[-1]
    amounts = (*should.amounts, should.amounts.saved_mc, event.quantity)
    tokens = (event.input_tokens, event.cached_input_tokens, event.output_tokens)
    sums = tuple(sum(row[name] for row in rows) for name in _SUMS)
    if sums != (*amounts, *tokens):
        return f"sums are {sums}, and should be {(*amounts, *tokens)}"
    said = {name: last[name] for name in _ATTRIBUTED} | {"flags": tuple(last["flags"])}
    right = {name: getattr(should, name) for name in _ATTRIBUTED} | {"flags": should.flags}
    return None if said == right else f"attribution is {said}, and should be {right}"


def as_event(wire: Wire) -> UsageEvent:
    """The event as the core reads it, from the fields that the tests have put in."""
    data = dict(wire["data"])
    claim = data.pop("credential", None)
    kind = EventType(wire["type"])
    defaults: dict[str, Any] = {"calls": 1 if kind.counts_calls else 0}
    if "usage" in data:
        data["usage"] = tuple(sorted(data["usage"].items()))
        data["is_partial"] = data.pop("usage_status", None) == "partial"
        defaults |= tokens_in(dict(data["usage"]))
    return UsageEvent(
        source=wire["source"],
        id=wire["id"],
        type=kind,
        occurred_at=datetime.fromisoformat(wire["time"]).astimezone(UTC),
        claim=None if claim is None else Claim(claim.get("credential_id")),
        **(defaults | data),
    )


def _conservation(rig: Rig, sent: Sent) -> Iterable[Finding]:
    """Covered ranges meet end to end, and every event in them became something."""
    partitions = rig.rows("SELECT * FROM ledger.source_partition WHERE topic = %s", USAGE_EVENTS.name)
    tally: Counter[str] = Counter()
    for partition in partitions:
        at = partition["origin_offset"]
        ranges = rig.rows(
            "SELECT * FROM ledger.covered_range WHERE source_partition_id = %s ORDER BY from_offset",
            partition["source_partition_id"],
        )
        for covered in ranges:
            if covered["from_offset"] != at:
                yield Finding("conservation", f"partition {partition['partition']} is not covered at {at}: {covered}")
            at = covered["to_offset"]
            tally.update({name: covered[name] for name in ("events", "recorded", "duplicates", "dead_letters")})
        if at != partition["next_offset"] or partition["origin_offset"] != 0:
            yield Finding("conservation", f"partition {partition['partition']} is covered to {at}: {partition}")
    refusable = sent.refusable.total()
    should = {"events": sent.elements, "recorded": len(sent.events), "dead_letters": refusable}
    should["duplicates"] = sent.elements - len(sent.events) - refusable
    if dict(tally) != should:
        yield Finding("conservation", f"covered {dict(tally)}, sent {should}")
    letters = rig.rows("SELECT reason, count(*) AS letters FROM ledger.dead_letter GROUP BY 1")
    if (found := {row["reason"]: row["letters"] for row in letters}) != dict(sent.refusable):
        yield Finding("conservation", f"dead letters are {found}, and should be {dict(sent.refusable)}")


def _totals(rig: Rig, entries: list[dict[str, Any]]) -> Iterable[Finding]:
    """The metrics' totals are the sums of the rows that they were committed with."""
    rows = rig.rows("SELECT metric, sum(value) AS total FROM ledger.metric_total GROUP BY 1")
    totals = defaultdict(int, {row["metric"]: row["total"] for row in rows})
    charges = [entry for entry in entries if entry["kind"] == "charge"]
    should = {name: sum(entry[name] for entry in charges) for name in ("list_mc", "charged_mc", "saved_mc")}
    should["corrections"] = sum(entry["kind"] == "correction" for entry in entries)
    if (found := {name: totals[name] for name in should}) != should:
        yield Finding("conservation", f"metric totals are {found}, and should be {should}")


def _product_says(rig: Rig, charges: int) -> Iterable[Finding]:
    """The product's own proofs agree: every entry derived again, and the topic booked once more from its beginning."""
    for options in ((), ("--replay",)):
        done = rig.byok("verify", "--json", *options)
        if done.returncode != 0:
            yield Finding("wrong", f"byok verify {' '.join(options)} ends with {done.returncode}: {done.stdout[:1000]}")
        elif options:
            # Of two payloads under one identity either may come first, so those are not compared.
            told = json.loads(done.stdout)
            compared, left_out = told["ledger"]["identities"], told["not_compared"]
            if compared + sum(left_out.values()) != charges or compared < charges / 2:
                yield Finding("lost", f"{compared} of {charges} identities are compared with the replay: {left_out}")
