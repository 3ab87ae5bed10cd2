"""Keys and models in a real browser: added and felt at once, shadowed, private, and only ever text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.local.dev_tokens import sign_token, token_claims
from tests.e2e.running import Stack, node_call

ORG = "northwind"
KEY = "sk-ant-api03-made-up-{}-0123456789abcdef"
MARKUP = '<img src=x onerror="alert(1)"> & <b>mine</b>'

Visitor = Callable[..., Any]


@pytest.fixture
def visitor(page: Any, stack: Stack) -> Visitor:
    """Signs somebody of the organization in by a token: ``visitor("ann", design="member")``."""
    stack.set_plan(ORG, "enterprise", "2026-04-01T00:00:00Z")

    def signed_in(user: str, role: str = "member", **teams: str) -> Any:
        claims = token_claims(user, "", issued_at=datetime.now(UTC), lifetime=timedelta(hours=1), org_id=ORG)
        token = sign_token(
            stack.data_dir / "secrets" / "jwt-signing-key.pem", claims | {"org_role": role, "teams": teams}
        )
        page.context.clear_cookies()
        page.goto("/sign-in")
        page.get_by_role("textbox", name="Token").fill(token)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.get_by_role("link", name="Credentials").click()
        page.get_by_role("heading", name="Credentials").wait_for()
        return page

    return signed_in


def add(page: Any, provider: str, key: str, label: str = "") -> None:
    """The four steps of the help article, from the list of keys to the page of the new one."""
    page.get_by_role("link", name="Add credential").first.click()
    page.get_by_role("radio", name=provider).check()
    page.get_by_label("Label").fill(label)
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name=f"{provider} key").wait_for()


def tab_of(page: Any, label: str) -> Any:
    """A tab of the list of keys."""
    return page.get_by_role("navigation", name="Whose keys").get_by_role("link", name=label)


def test_a_key_is_added_and_the_next_call_costs_one_credit(
    visitor: Visitor, stack: Stack, without_violations: Callable[[], None], picture: Callable[[str], None]
) -> None:
    page = visitor("ann", design="admin")
    before = node_call(ORG, data={"user_id": "ann"})
    stack.publish(before)
    stack.settled(ORG, 1)
    without_violations()
    page.get_by_role("link", name="Add credential").first.click()
    without_violations()
    page.go_back()
    add(page, "Anthropic", KEY.format("ann"), "Mine, for drafts")
    assert page.get_by_text("An Ask AI call on claude-sonnet-4-6: 20 →").is_visible()
    without_violations()
    stack.settle()
    after = node_call(ORG, data={"user_id": "ann"})
    stack.publish(after)
    entries = stack.settled(ORG, 2)
    for event, charged in ((before, "20"), (after, "1")):
        page.goto(f"/receipts/{entries[event['id']]['entry_id']}")
        assert page.locator("h3:text-is('Charged') + .big").inner_text() == charged
    page.goto("/credentials")
    add(page, "OpenAI", "sk-proj-made-up-0123456789abcdef", "Drafts, cheap")
    page.get_by_role("link", name="Credentials").first.click()
    picture("credentials")


def test_a_key_of_the_organization_is_used_instead_in_words(
    visitor: Visitor, without_violations: Callable[[], None]
) -> None:
    page = visitor("cleo")
    add(page, "Google AI", "AIza-made-up-cleo-0123456789abcdef", "Cleo's")
    page = visitor("ada", "admin")
    tab_of(page, "Organization").click()
    add(page, "Google AI", "AIza-made-up-all-0123456789abcdef", "For everybody")
    page = visitor("cleo")
    row = page.get_by_role("row", name="Google AI …cdef Cleo's")
    assert row.get_by_text("Your organization's key is used instead").is_visible()
    applies = page.get_by_role("row", name="Google AI Your organization's key")
    assert applies.is_visible()
    without_violations()
    row.get_by_role("link").click()
    page.get_by_text("Nobody can go around a key that the organization has").wait_for()
    page.get_by_role("link", name="Delete").click()
    page.get_by_text("It is not used now, so nothing changes in what calls cost.").wait_for()
    without_violations()
    page.get_by_role("button", name="Delete the key").click()
    page.get_by_text("Deleted. The key was destroyed").wait_for()


def test_a_member_sees_no_key_of_another_and_markup_in_a_label_is_text(
    visitor: Visitor, without_violations: Callable[[], None]
) -> None:
    page = visitor("dan")
    add(page, "DeepSeek", "sk-made-up-dan-0123456789abcdef", MARKUP)
    page_of_dans = page.url
    assert page.get_by_text(MARKUP).first.is_visible()
    assert page.locator("main img").count() == 0
    page.get_by_role("link", name="Delete").click()
    assert page.get_by_text(f"“{MARKUP}”").is_visible()
    page = visitor("eve", design="member")
    for tab in ("Personal", "Team design", "Organization"):
        tab_of(page, tab).click()
        assert page.get_by_text("DeepSeek …").count() == 0
        assert page.get_by_text(MARKUP).count() == 0
    page.goto(page_of_dans)
    page.get_by_role("heading", name="There is no such page").wait_for()
    page = visitor("ada", "admin")
    tab_of(page, "Everybody's").click()
    assert page.get_by_role("row", name="DeepSeek dan's own").is_visible()
    assert page.get_by_text(MARKUP).count() == 0
    page.get_by_role("row", name="DeepSeek dan's own").get_by_role("link").click()
    page.get_by_text("You see that this key exists").wait_for()
    page.get_by_role("heading", name="History").wait_for()
    without_violations()


def test_models_are_searched_and_priced(
    visitor: Visitor, without_violations: Callable[[], None], picture: Callable[[str], None]
) -> None:
    page = visitor("ann")
    page.get_by_role("link", name="Models").click()
    page.get_by_label("Provider").select_option("Anthropic")
    page.get_by_label("Name contains").fill("sonnet")
    page.get_by_role("button", name="Show").click()
    row = page.get_by_role("row", name="claude-sonnet-4-6")
    assert row.get_by_role("cell").all_inner_texts()[:3] == ["advanced", "20", "1"]
    row.get_by_text("more").click()
    assert row.get_by_text("With processing batch: input $1.5").is_visible()
    without_violations()
    row.get_by_text("more").click()
    picture("models")
