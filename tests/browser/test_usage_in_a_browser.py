"""Savings, usage, receipts, what if and statements in a real browser."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.running import Stack
from tests.patience import wait_for


@pytest.fixture(scope="module")
def org_id(stack: Stack) -> str:
    """An organization with use of six weeks, before and after a key came."""
    org_id = stack.new_organization("enterprise")
    now = datetime.now(UTC).replace(microsecond=0)
    key = {
        "org_id": org_id,
        "scope": {"type": "team", "id": "data"},
        "provider": "openai",
        "api_key": "sk-made-up-0123456789abcdef",
        "effective_from": (now - timedelta(days=10)).isoformat(),
    }
    stack.registry.post("/v1/credentials", json=key).raise_for_status()
    events = [_event(org_id, number, now - timedelta(hours=7 * number)) for number in range(150)]
    stack.ledger.post("/v1/usage-events", json=events).raise_for_status()
    summary = f"/v1/organizations/{org_id}/summary"
    wait_for("the use to be booked", lambda: stack.ledger.get(summary).json()["total"]["events"] == len(events))
    return org_id


def _event(org_id: str, number: int, at: datetime) -> dict[str, Any]:
    provider, model = (("openai", "gpt-4.1"), ("anthropic", "claude-sonnet-4-6"))[number % 2]
    data = {
        "org_id": org_id,
        "user_id": ("fay", "ivy")[number % 3 == 0],
        **({"team_id": "data"} if number % 3 else {}),
        "run_id": f"run-{number // 5}",
        "node": "ask_ai",
        "provider": provider,
        "model": model,
        "calls": number % 4 + 1,
    }
    head = {"specversion": "1.0", "source": "browser", "type": "usage.node_call.v1", "id": f"e{number}"}
    return head | {"time": at.isoformat(), "data": data}


def test_a_figure_leads_to_its_entries_and_an_entry_to_its_receipt(
    org_id: str, sign_in: Any, without_violations: Any, picture: Any
) -> None:
    page = sign_in("Operator")
    page.goto(f"/savings?org_id={org_id}")
    assert page.locator(".chart .mark").count() == 1
    without_violations()
    picture("savings")
    page.get_by_role("link", name="Model", exact=True).click()
    row = page.get_by_role("row", name=re.compile("^anthropic.claude"))
    figure = row.get_by_role("cell").nth(2).inner_text()
    row.get_by_role("link").nth(2).click()
    page.get_by_role("heading", name=f"Usage of {org_id}").wait_for()
    assert page.locator(".totals .big").nth(1).inner_text() == figure
    without_violations()
    picture("usage")
    page.get_by_label("Team", exact=True).fill("data")
    page.get_by_role("button", name="Show").click()
    assert "team_id=data" in page.url
    assert "provider=anthropic" in page.url
    page.get_by_role("link", name="Receipt of").first.click()
    page.get_by_text("agrees with the entry").wait_for()
    without_violations()
    picture("receipt")


def test_what_if_and_a_statement_to_print(org_id: str, sign_in: Any, without_violations: Any, picture: Any) -> None:
    page = sign_in("Operator")
    page.goto(f"/what-if?org_id={org_id}")
    page.get_by_role("link", name="This month").click()
    page.get_by_text("would have saved").first.wait_for()
    without_violations()
    picture("what-if")
    page.get_by_role("link", name="Statement").click()
    page.get_by_role("heading", name="Statement of").wait_for()
    without_violations()
    picture("statement")
    page.emulate_media(media="print")
    assert not any(form.is_visible() for form in page.locator("form").all())
    page.emulate_media(media="screen")


def test_whoever_was_signed_out_comes_back_to_the_same_entries(org_id: str, sign_in: Any) -> None:
    page = sign_in("Operator")
    page.goto(f"/usage?org_id={org_id}&all=1&provider=anthropic&team_id=data")
    wanted = page.url
    page.context.clear_cookies()
    page.reload()
    page.get_by_role("heading", name="Sign in").wait_for()
    page.get_by_role("button", name="Operator").click()
    page.get_by_role("heading", name=f"Usage of {org_id}").wait_for()
    assert sorted(page.url.partition("?")[2].split("&")) == sorted(wanted.partition("?")[2].split("&"))
