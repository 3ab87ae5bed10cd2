"""Signing in and out, sessions and forms of the console, over HTTP as a browser speaks it."""

from __future__ import annotations

import json
import re
from html import unescape

import pytest
from fastapi.testclient import TestClient

from services.console.main import build_app
from services.console.preferences import ZONES
from services.console.sign_in.session import COOKIE
from services.runtime.settings import SettingsError

PAGES = ("/savings?all=1&org_id=acme", "/usage/dead-letters?org_id=acme&all=1", "/organizations", "/preferences")
WHERE = "/savings?from=2026-05-02&to=2026-05-03&provider=openai&org_id=acme"


def csrf_of(page):
    return re.search(r'name="csrf" value="([^"]+)"', page.text)[1]


def on_sign_in_page(answer):
    return answer.status_code == 200 and answer.url.path == "/sign-in" and 'type="password"' in answer.text


def test_the_token_is_kept_where_no_script_and_no_other_site_reaches_it(client, company, sign_in):
    token, answer = sign_in()
    cookies = [value for name, value in answer.headers.multi_items() if name == "set-cookie"]
    assert not any(token[:20] in cookie for cookie in cookies)
    assert {"HttpOnly", "Path=/", "SameSite=lax"} <= set(cookies[0].split("; "))
    assert token not in client.get(PAGES[0]).text


@pytest.mark.parametrize(
    ("base_url", "always", "secure"),
    [("http://console.test", False, False), ("https://console.test", False, True), ("http://console.test", True, True)],
)
def test_cookies_are_secure_over_tls_and_always_where_a_setting_says_so(settings, stack, base_url, always, secure):
    with TestClient(build_app(settings(console_cookie_secure=always)), base_url=base_url) as client:
        form = {"token": stack.token(scope="ledger:read")}
        signed_in = client.post("/sign-in/token", data=form, follow_redirects=False)
    assert ("Secure" in signed_in.headers["set-cookie"].split("; ")) is secure


def test_every_answer_forbids_script_and_inline_style_and_has_neither(client, sign_in, company):
    signed_out = ["/sign-in", "/static/console.css", "/static/icon.svg", "/favicon.ico", "/none", "/savings"]
    answers = [client.get(path, follow_redirects=False) for path in signed_out]
    sign_in()
    receipt = f"/receipts/{company.rows()[0]['entry_id']}"
    answers += [client.get(path) for path in (*PAGES, receipt, "/receipts/no-uuid", "/savings?org_id=acme&from=x")]
    answers.append(client.post("/preferences", data={}))
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        if answer.headers.get("content-type", "").startswith("text/html"):
            assert answer.headers["cache-control"] == "no-store"
            assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:", answer.text)
            assert '<html lang="en">' in answer.text


def test_without_a_good_token_there_is_only_the_sign_in_page(client, company):
    for path in (*PAGES, "/", f"/receipts/{company.rows()[0]['entry_id']}"):
        page = client.get(path)
        assert on_sign_in_page(page)
        assert "gpt-4.1" not in page.text
    refused = client.post("/sign-in/token", data={"token": "sk-proj-canary0123456789"})
    assert refused.status_code == 401
    assert "canary" not in refused.text
    assert client.post("/sign-in/token", content=b"\xff\xfe=%zz").status_code == 401
    assert client.post("/sign-in/token", content=b"token=x&" * 200).status_code == 401
    assert client.post("/sign-in/token", data={"token": "x" * 5_000}).status_code == 401


def test_no_redirect_repeats_what_was_put_into_a_url_by_mistake(client):
    key = "sk-proj-canary0123456789"
    for path in (f"/savings/?key={key}", f"/sign-in/?key={key}", f"//{key}", f"/{key}", f"/savings?api_key={key}"):
        answer = client.get(path, follow_redirects=False)
        assert "canary" not in answer.text + str(answer.headers)
    assert "canary" not in client.get(f"/sign-in?next=/savings?api_key={key}").text


def test_a_form_from_another_site_signs_nobody_in_or_out(client, stack, sign_in):
    token = stack.token("svc", "ledger:read")
    for headers in ({"Origin": "https://evil.test"}, {"Sec-Fetch-Site": "cross-site"}):
        for path in ("/sign-in/token", "/sign-in/persona"):
            answer = client.post(path, data={"token": token, "persona": "x"}, headers=headers)
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers
    sign_in()
    form = {"csrf": csrf_of(client.get("/preferences"))}
    assert client.post("/sign-out", data=form, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    for wrong in ({}, {"csrf": "x" * 32}):
        assert client.post("/sign-out", data=wrong).status_code == 403
    assert "Sign out" in client.get("/preferences").text
    assert on_sign_in_page(client.post("/sign-out", data=form, headers={"Origin": "http://console.test"}))
    assert on_sign_in_page(client.get("/preferences"))


def test_a_word_of_another_session_opens_no_form(client, sign_in):
    sign_in()
    other = csrf_of(client.get("/preferences"))
    sign_in()
    assert client.post("/preferences", data={"csrf": other, "zone": "Asia/Tokyo"}).status_code == 403
    assert "Asia/Tokyo." not in client.get("/preferences").text


def test_whoever_is_signed_out_by_time_is_told_and_comes_back_to_the_same_page(client, stack):
    assert "Your session has ended" not in client.get(WHERE).text
    client.cookies.set(f"{COOKIE}_0", "of-a-key-that-is-gone")
    page = client.get(WHERE)
    assert on_sign_in_page(page)
    assert "Your session has ended" in page.text
    hidden = unescape(re.search(r'name="next" value="([^"]*)"', page.text)[1])
    back = client.post(
        "/sign-in/token", data={"token": stack.token("svc", "ledger:read"), "next": hidden}, follow_redirects=False
    )
    assert sorted(back.headers["location"].partition("?")[2].split("&")) == sorted(WHERE.partition("?")[2].split("&"))


@pytest.mark.parametrize("elsewhere", ["https://evil.test/", "//evil.test/", "/savings//evil.test", "/\\evil.test", ""])
def test_signing_in_leads_to_no_page_but_ours(client, stack, elsewhere):
    sent = {"token": stack.token("svc", "ledger:read"), "next": elsewhere}
    answer = client.post("/sign-in/token", data=sent, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_in_development_one_signs_in_as_somebody_of_a_list_that_production_refuses(settings, stack, tmp_path):
    people = [
        {"name": "Ann <b>", "about": "admin", "token": stack.token("ann", "", org_id="acme", org_role="admin")},
        {"name": "Gone", "about": "", "token": "none"},
    ]
    file = tmp_path / "personas.json"
    file.write_text(json.dumps(people))
    with TestClient(build_app(settings(console_personas_file=file)), base_url="http://console.test") as client:
        page = client.get("/sign-in").text
        assert "Ann &lt;b&gt;" in page
        assert people[0]["token"] not in page
        assert client.post("/sign-in/persona", data={"persona": "Gone"}).status_code == 401
        assert client.post("/sign-in/persona", data={"persona": "Nobody"}).status_code == 404
        assert "Savings of acme" in client.post("/sign-in/persona", data={"persona": "Ann <b>"}).text
        file.write_text("no list")
        client.cookies.clear()
        assert "Ann" not in client.get("/sign-in").text
    with pytest.raises(SettingsError, match="BYOK_CONSOLE_PERSONAS_FILE"):
        build_app(settings(console_personas_file=file, env="production"))


def test_an_operator_of_all_organizations_chooses_one_and_comes_to_the_page_that_was_wanted(client, company, sign_in):
    company.book("x", org_id="Beta/1")
    company.place()
    sign_in()
    page = client.get("/savings")
    assert page.url.path == "/organizations"
    listed = re.findall(r'<a href="(/savings\?org_id=[^"]+)">([^<]+)</a>', page.text)
    assert ("/savings?org_id=Beta%2F1", "Beta/1") in listed
    assert "Savings of Beta/1" in client.get("/savings?org_id=Beta%2F1").text
    found = client.get("/organizations?search=BETA&next=/savings").text
    assert "Beta/1" in found
    assert "acme" not in found
    assert "None found" in client.get("/organizations?search=zzz").text
    sign_in("ann", "", org_id="acme", org_role="admin")
    assert client.get("/savings").url.path == "/savings"
    assert "Beta" not in client.get("/organizations").text


def test_times_and_amounts_are_as_the_reader_wants_them(client, company, sign_in):
    sign_in("ann", "", org_id="acme", org_role="admin")
    assert len(ZONES) > 300
    form = {
        "csrf": csrf_of(client.get("/preferences")),
        "zone": "Asia/Kathmandu",
        "exact": "1",
        "next": "/savings?all=1",
    }
    page = client.post("/preferences", data=form)
    assert page.url.path == "/savings"
    assert "Times in Asia/Kathmandu (UTC+05:45)" in page.text
    assert "Amounts in credits, exact" in page.text
    (entry,) = company.rows("event_id = 'e1'")
    receipt = client.get(f"/receipts/{entry['entry_id']}").text
    assert re.search(r'<time datetime="2026-05-01T12:00:\d\d[^"]*Z">2026-05-01 17:45:\d\d</time>', receipt)


def test_a_page_says_what_is_away_and_what_to_do(settings, sign_in, client, stack):
    with TestClient(build_app(settings(ledger_url="http://127.0.0.1:9")), base_url="http://console.test") as alone:
        alone.post("/sign-in/token", data={"token": stack.token("ann", "", org_id="acme", org_role="admin")})
        page = alone.get("/savings")
        assert page.status_code == 503
        assert "The ledger is away" in page.text
        assert "Try again in a minute" in page.text
        assert alone.get("/preferences").status_code == 200
        ready = alone.get("/readyz")
        assert ready.status_code == 200
        assert set(ready.json()["impaired"]) == {"registry", "ledger"}
    assert set(client.get("/readyz").json()["impaired"]) == {"registry"}
    sign_in("ann", "", org_id="acme", org_role="admin")
    missing = client.get("/receipts/00000000-0000-0000-0000-000000000000")
    assert missing.status_code == 404
    assert client.get("/none").status_code == 404
    assert client.get("/savings?org_id=other").status_code == 403


def test_requests_of_one_page_are_of_one_trace(client, company, sign_in, caplog):
    sign_in()
    trace = "0af7651916cd43dd8448eb211c80319c"
    answer = client.get(PAGES[0], headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    assert trace in answer.headers["traceparent"]


def test_browsers_find_an_icon(client):
    named = re.search(r'<link rel="icon"[^>]* href="([^"]+)"', client.get("/sign-in").text)
    for path in (named[1], "/favicon.ico"):
        icon = client.get(path)
        assert (icon.status_code, icon.headers["content-type"]) == (200, "image/svg+xml")
