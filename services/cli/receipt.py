"""A receipt and a quote in words, out of the ledger's own answers; readable in 80 columns and without colour."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.domain.credits import format_credits_roughly

Line = tuple[str, str]


def receipt_lines(answer: dict[str, Any]) -> list[Line]:
    """One entry and what it follows from (GET /v1/entries/{entry_id}/receipt)."""
    entry, evidence = answer["entry"], answer["evidence"]
    lines: list[Line] = [
        ("entry", f"{entry['entry_id']} ({entry['kind']}, revision {entry['revision']})"),
        ("event", f"{entry['event_type']} {entry['event_id']} at {entry['occurred_at']}"),
        ("who", f"{entry['user_id']}, team {entry['team_id'] or '–'}, of {entry['org_id']}"),
    ]
    if entry["model"] is not None:
        lines.append(("model", _model(entry)))
    if answer.get("claim"):
        claim = answer["claim"]
        lines.append(("claimed", " ".join(filter(None, (claim["source"], claim["credential_id"])))))
    lines += [
        ("rate card", _card_line(evidence.get("rate_card", {"card": entry["rate_card"]}))),
        ("plan", _plan(evidence.get("plan", {}))),
        ("key", f"{entry['byok_scope'] or entry['key_source']}, because {entry['reason']}"),
    ]
    lines += _candidates(evidence.get("candidates", []))
    if answer.get("flags"):
        lines.append(("flags", ", ".join(answer["flags"])))
    lines += _steps("price", evidence.get("arithmetic", []))
    lines += [("revision", _revision(each)) for each in answer.get("revisions", []) if each["kind"] != "reversal"]
    if origin := answer.get("read_from"):
        lines.append(("read from", f"{origin['topic']} partition {origin['partition']} offset {origin['offset']}"))
    if answer.get("traceparent"):
        lines.append(("trace", answer["traceparent"]))
    if answer.get("current_entry_id") not in (None, entry["entry_id"]):
        lines.append(("put right by", str(answer["current_entry_id"])))
    lines.append(("derived again", _agreement(evidence)))
    return lines


def quote_lines(answer: dict[str, Any]) -> list[Line]:
    """Which key would apply, at what price, and why (POST /v1/quote)."""
    key, call, tokens = answer["key"], answer["node_call"], answer["token_usage"]
    lines: list[Line] = [
        ("who", f"{answer['user_id']}, team {answer['team_id'] or '–'}, of {answer['org_id']}"),
        ("model", f"{answer['provider']}/{answer['model']} at {answer['time']}"),
        ("rate card", _card_line(answer["rate_card"])),
        ("plan", _plan(answer["plan"])),
        ("key", f"{key['byok_scope'] or key['key_source']}, because {key['reason']}"),
        *_candidates(answer["candidates"]),
        *_steps(f"{call['calls']:,} node calls", call["arithmetic"]),
    ]
    if tokens["input_tokens"] or tokens["output_tokens"] or tokens.get("usage"):
        lines += _steps("tokens", tokens["arithmetic"])
    return lines


def show_lines(console: Console, lines: Iterable[Line]) -> None:
    """The lines as two columns."""
    table = Table.grid(padding=(0, 2))
    for name, text in lines:
        table.add_row(name, Text(text, overflow="fold"))
    console.print(table)


def _model(entry: dict[str, Any]) -> str:
    listed = entry.get("priced_model") or entry["model"]
    as_listed = "" if listed == entry["model"] else f", which the rate card lists as {listed}"
    return f"{entry['provider']}/{entry['model']}{as_listed}"


def _steps(name: str, arithmetic: list[str]) -> list[Line]:
    return [(name if not index else "", step) for index, step in enumerate(arithmetic)]


def _card_line(line: dict[str, Any]) -> str:
    # The lines of a bill stand in the arithmetic, where they are added up.
    shown = {name: value for name, value in line.items() if name not in ("card", "lines") and value not in (None, [])}
    details = [f"{name.replace('_', ' ')} {value}" for name, value in shown.items()]
    return ", ".join([str(line["card"]), *details])


def _plan(plan: dict[str, Any]) -> str:
    if not plan:
        return "–"
    if not plan.get("known", True):
        return f"{plan['plan']} (none known)"
    return f"{plan['plan']} from {plan['from']}" + (f" to {plan['to']}" if plan["to"] else "")


def _candidates(candidates: list[dict[str, Any]]) -> list[Line]:
    return [(f"  {each['rule']}", _candidate(each)) for each in candidates]


def _candidate(each: dict[str, Any]) -> str:
    taken = "taken: " if each["taken"] else ""
    named = " ".join(filter(None, (each.get("credential_id"), each.get("hint"))))
    return f"{taken}{each['why']}{f' ({named})' if named else ''}"


def _revision(row: dict[str, Any]) -> str:
    cause = row.get("caused_by")
    # Without the name where the token may not know of the key that changed.
    why = f", caused by registry change {cause['seq']} ({cause['key'] or cause['kind'] or '–'})" if cause else ""
    return (
        f"{row['revision']}: charged {format_credits_roughly(row['charged_mc'])}"
        f" with {row['byok_scope'] or row['key_source']}{why}"
    )


def _agreement(evidence: dict[str, Any]) -> str:
    if evidence.get("agrees"):
        return "the same"
    return f"NOT the same: {evidence.get('problem') or evidence.get('rederived')}"
