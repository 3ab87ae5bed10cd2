"""The frame of the console in a real browser: signing in and out, the pages of everybody, readable for everybody."""

from __future__ import annotations

from typing import Any


def test_somebody_signs_in_looks_around_and_out_again(sign_in: Any, without_violations: Any) -> None:
    page = sign_in("Operator")
    page.get_by_role("heading", name="Choose an organization").wait_for()
    without_violations()
    page = sign_in("Fay of meridian")
    page.get_by_role("heading", name="Savings of meridian").wait_for()
    without_violations()
    page.get_by_role("link", name="Change time zone").click()
    page.get_by_label("Time zone").select_option("Europe/Berlin")
    page.get_by_label("Show amounts exactly").check()
    page.get_by_role("button", name="Save").click()
    page.get_by_text("Times in Europe/Berlin (UTC+0").wait_for()
    assert page.url.endswith("/savings")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    without_violations()
    page.goto("/savings?from=2026-05-01")
    page.get_by_role("heading", name="Sign in").wait_for()
    page.get_by_role("button", name="Nia").click()
    page.get_by_role("heading", name="Savings of nightowl").wait_for()
    assert page.url.endswith("/savings?from=2026-05-01")


def test_the_keyboard_alone_leads_everywhere(sign_in: Any) -> None:
    page = sign_in("Nia")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
