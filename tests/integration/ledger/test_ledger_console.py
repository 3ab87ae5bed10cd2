"""The console: signing in without the token ever being in a URL, true numbers, everything escaped, no script."""

from __future__ import annotations

import re
from html import escape, unescape

import pytest
from fastapi.testclient import TestClient

from schemas.dead_letters import Reason
from services.domain.credits import format_credits, format_credits_roughly
from services.ledger.console.dead_letters import WHAT_TO_DO
from services.ledger.main import build_app
from tests.integration.ledger.ledger_seed import at

ALL = "/console/?all=1&org_id=acme"
DEAD_LETTERS = "/console/dead-letters"


@pytest.fixture
def company(company, place):
    """All that is booked has its place, so that it is in sums."""
    place()
    return company


@pytest.fixture
def sign_in(client, stack):
    def signed_in(subject="svc", scope="ledger:read", **claims):
        token = stack.token(subject, scope, **claims)
        response = client.post("/console/sign-in", data={"token": token}, follow_redirects=False)
        assert (response.status_code, response.headers["location"]) == (303, "/console/")
        return token, response.headers["set-cookie"]

    return signed_in


def test_the_token_is_kept_where_no_script_and_no_other_site_reaches_it(client, sign_in):
    token, cookie = sign_in()
    assert token in cookie
    assert {"HttpOnly", "Path=/console", "SameSite=strict"} <= set(cookie.split("; "))
    assert token not in client.get(ALL).text


@pytest.mark.parametrize(
    ("base_url", "always", "secure"),
    [("http://ledger.test", False, False), ("https://ledger.test", False, True), ("http://ledger.test", True, True)],
)
def test_the_cookie_is_secure_over_tls_and_always_where_a_setting_says_so(stack, database, base_url, always, secure):
    app = build_app(stack.settings(database, console_cookie_secure=always))
    with TestClient(app, base_url=base_url) as client:
        form = {"token": stack.token(scope="ledger:read")}
        signed_in = client.post("/console/sign-in", data=form, follow_redirects=False)
        signed_out = client.post("/console/sign-out", follow_redirects=False)
    for answer in (signed_in, signed_out):
        assert ("Secure" in answer.headers["set-cookie"].split("; ")) is secure


def test_every_page_forbids_script_and_inline_style_and_has_neither(client, sign_in, company):
    sign_in()
    receipt = f"/console/receipts/{company.rows()[0]['entry_id']}"
    for path in (
        ALL,
        "/console/",
        receipt,
        f"{DEAD_LETTERS}?org_id=acme&all=1",
        "/console/receipts/no-uuid",
        "/console/?from=x",
    ):
        page = client.get(path)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["cache-control"] == "no-store"
        assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:", page.text)
        assert '<html lang="en">' in page.text
    style = client.get("/console/static/console.css")
    assert style.headers["content-type"].startswith("text/css")
    assert "prefers-color-scheme: dark" in style.text


def test_without_a_good_token_there_is_only_the_sign_in_page(client, company, stack):
    for path in (ALL, f"/console/receipts/{company.rows()[0]['entry_id']}"):
        page = client.get(path)
        assert 'type="password"' in page.text
        assert "gpt-4.1" not in page.text
    refused = client.post("/console/sign-in", data={"token": "sk-proj-canary0123456789"})
    assert refused.status_code == 401
    assert "canary" not in refused.text
    assert client.post("/console/sign-in", content=b"\xff\xfe=%zz").status_code == 401
    assert client.post("/console/sign-in", data={"token": "x" * 5_000}).status_code == 422


def test_the_console_is_found_without_its_slash_and_no_redirect_repeats_what_was_sent(client):
    moved = client.get("/console?key=canary", follow_redirects=False)
    assert (moved.status_code, moved.headers["location"]) == (303, "/console/")
    for path in ("/v1/quote/?key=canary", "/v1/entries/canary/", "/console/sign-in/?key=canary", "/console//canary"):
        answer = client.get(path, follow_redirects=False)
        assert answer.status_code == 404
        assert "canary" not in answer.text + str(answer.headers)


def test_a_form_from_another_site_signs_nobody_in_or_out(client, stack, sign_in):
    token = stack.token("svc", "ledger:read")
    for headers in ({"Origin": "https://evil.test"}, {"Sec-Fetch-Site": "cross-site"}):
        response = client.post("/console/sign-in", data={"token": token}, headers=headers)
        assert response.status_code == 403
        assert "set-cookie" not in response.headers
    sign_in()
    client.post("/console/sign-out", headers={"Sec-Fetch-Site": "cross-site"})
    assert "Sign out" in client.get("/console/").text
    client.post("/console/sign-out", headers={"Origin": "http://ledger.test"})
    assert 'type="password"' in client.get("/console/").text


def test_the_savings_page_shows_the_sums_of_the_table(client, company, sign_in):
    sign_in()
    page = client.get(ALL).text
    sums = company.connection.execute(
        "SELECT sum(list_mc), sum(charged_mc), sum(saved_mc) FROM ledger.entries WHERE org_id = 'acme'"
    ).fetchone()
    for total in sums:
        shown = f'title="exactly {format_credits(int(total))} credits">{format_credits_roughly(int(total))}</p>'
        assert f'<p class="big" {shown}' in page
    assert "<svg" in page
    assert page.count("/console/receipts/") == 25


def test_dates_are_whole_days_and_by_day(client, company, sign_in):
    sign_in()
    page = client.get("/console/?org_id=acme&from=2026-05-02&to=2026-05-03").text
    assert re.findall(r'<th scope="row">(2026-\d\d-\d\d)</th>', page) == ["2026-05-02", "2026-05-03"]
    assert "Credits by day" in page
    nothing = client.get("/console/?org_id=acme&from=2027-01-01").text
    assert "Nothing was used in this time" in nothing


def test_all_time_is_all_of_it_although_the_form_sends_its_dates_along(client, company, sign_in):
    sign_in()
    page = client.get(f"{ALL}&from=2027-01-01&to=2027-01-31").text
    assert "Nothing was used" not in page
    assert page.count("/console/receipts/") == 25
    assert 'name="from" value=""' in page


def test_a_day_without_use_is_a_gap_in_the_bars_and_not_a_day_less(client, company, sign_in):
    sign_in()
    page = client.get("/console/?org_id=acme&from=2026-04-29&to=2026-05-05").text
    days = re.findall(r'<th scope="row">(2026-\d\d-\d\d)</th>', page)
    assert days == [f"2026-{day}" for day in ("04-29", "04-30", "05-01", "05-02", "05-03", "05-04", "05-05")]
    assert "2026-04-29: list 0, charged 0, saved 0" in page


def test_who_is_signed_out_by_time_is_told_and_comes_back_to_the_same_page(client, company, stack, sign_in):
    where = "/console/?org_id=acme&from=2026-05-02&to=2026-05-03&provider=openai"
    client.cookies.set("byok_console", stack.token("svc", "ledger:read", exp=1_000_000_000), path="/console")
    page = client.get(where)
    assert "Your session has ended" in page.text
    hidden = re.search(r'name="next" value="([^"]*)"', page.text)
    token = stack.token("svc", "ledger:read")
    back = client.post(
        "/console/sign-in", data={"token": token, "next": unescape(hidden[1])}, follow_redirects=False
    ).headers["location"]
    assert back == where
    client.cookies.clear()
    assert "Your session has ended" not in client.get(where).text


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.test/console/",
        "//evil.test/console/",
        "/console/../v1/audit",
        "/console//evil.test",
        "/console/sign-out",
        "/\\evil.test",
        "",
    ],
)
def test_signing_in_leads_to_no_page_but_ours(client, stack, elsewhere):
    sent = {"token": stack.token("svc", "ledger:read"), "next": elsewhere}
    answer = client.post("/console/sign-in", data=sent, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/")


def test_the_way_back_repeats_filters_and_nothing_else(client):
    key = "sk-proj-canary0123456789"
    page = client.get(f"/console/?api_key={key}&provider={key}&model=gpt-5&org_id=acme").text
    assert 'name="next" value="/console/?org_id=acme&amp;model=gpt-5"' in page
    assert key not in page


def _luminance(colour):
    channels = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one, other):
    """WCAG 2.2, contrast ratio."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_charged_and_saved_can_be_told_apart_by_whoever_sees_no_colour(client, company, sign_in):
    style = client.get("/console/static/console.css").text
    themes = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6}|#fff)", theme)) for theme in style.split("@media")[:2]]
    for theme in themes:
        card = theme["card"] if len(theme["card"]) == 7 else "#ffffff"
        for pair in ((theme["charged"], theme["saved"]), (theme["charged"], card), (theme["saved"], card)):
            assert _contrast(*pair) >= 3, pair
    sign_in()
    assert 'fill="url(#stripes)"' in client.get(ALL).text


def test_the_root_leads_to_the_console(client):
    moved = client.get("/", follow_redirects=False)
    assert (moved.status_code, moved.headers["location"]) == (303, "/console/")


def test_names_that_customers_choose_are_escaped(client, company, place, sign_in):
    company.book("x", user_id="<script>alert(1)</script>", team_id='"><b>', occurred_at=at(days=60))
    place()
    sign_in()
    page = client.get(ALL).text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "<b>" not in page
    quoted = client.get("/console/", params={"org_id": '"><img src=x>', "all": "1", "model": "<i>"}).text
    assert "<img" not in quoted
    assert "<i>" not in quoted


def test_people_see_what_the_api_shows_them(client, company, sign_in):
    sign_in("cid", "", org_id="acme", org_role="member")
    page = client.get("/console/?all=1").text
    assert "Savings of acme" in page
    assert "Dead letters" not in page
    assert set(re.findall(r"<td>(ann|bob|cid|dan)\b", page)) == {"cid"}
    assert client.get("/console/?all=1&org_id=other").status_code == 403
    anns = company.rows("event_id = 'e0'")[0]["entry_id"]
    assert client.get(f"/console/receipts/{anns}").status_code == 404


@pytest.fixture
def refused(company):
    """Three events of acme that were refused on two days, and one of another organization."""
    first = {"failed_at": at(), "event_type": "usage.node_call.v1", "event_source": "runner/1", "event_id": "<b>x"}
    company.dead_letter("acme", "invalid_event", 1, detail="data.calls: must be 1 or more", **first)
    company.dead_letter("acme", "unpriced_model", 2, failed_at=at(days=2), event_type="usage.token_usage.v1")
    company.dead_letter("acme", "unpriced_model", 4, failed_at=at(days=2), source_index=7)
    company.dead_letter("other", "unpriced_model", 3, failed_at=at())
    return company


def card_of_dead_letters(page):
    """Its number, the line below it, and where it leads."""
    card = page.partition("<h2>Dead letters</h2>")[2].partition("</div>")[0]
    number, line = re.findall(r"<p[^>]*>(.*?)</p>", card)
    link = re.search(r'href="([^"]+)"', card)
    return re.sub(r"<[^>]+>", "", number), re.sub(r"<[^>]+>", "", line), link and unescape(link[1])


def test_services_see_how_many_events_were_refused(client, refused, sign_in):
    sign_in()
    number, line, link = card_of_dead_letters(client.get(ALL).text)
    assert (number, line) == ("3", "invalid_event 1, unpriced_model 2")
    page = client.get(link).text
    assert "3 refused" in page
    assert page.count("offset ") == 3


@pytest.mark.parametrize(
    ("filters", "number"),
    [
        ("from=2026-05-02&to=2026-05-03", "2"),
        ("from=2026-05-01&to=2026-05-01", "1"),
        ("from=2026-05-04&to=2026-05-05", "0"),
        ("from=2026-05-01&to=2026-05-03&event_type=usage.token_usage.v1", "1"),
        ("all=1&event_type=usage.node_call.v1", "1"),
    ],
)
def test_dead_letters_are_counted_and_listed_under_the_filters_of_the_page(client, refused, sign_in, filters, number):
    sign_in()
    shown, _, link = card_of_dead_letters(client.get(f"/console/?org_id=acme&{filters}").text)
    assert shown == number
    page = client.get(link or f"{DEAD_LETTERS}?org_id=acme&{filters}").text
    assert page.count("offset ") == int(number)
    assert ("None was refused" in page) is (number == "0")


def test_a_filter_that_no_dead_letter_can_be_judged_by_gives_no_number(client, refused, sign_in):
    sign_in()
    number, line, link = card_of_dead_letters(client.get(f"{ALL}&provider=openai&user_id=ann").text)
    assert (number, line) == ("–", "not known by provider, user; all of this time")
    assert "3 refused" in client.get(link).text


def test_the_list_says_of_each_dead_letter_why_when_where_and_what_to_do(client, refused, sign_in):
    sign_in()
    page = client.get(f"{DEAD_LETTERS}?org_id=acme&all=1").text
    newest, _, oldest = re.findall(r"<tr>(<td>.*?)</tr>", page, re.DOTALL)
    assert "2026-05-03 12:00:00" in newest
    assert "offset 4, element 7" in newest
    assert "runs byok dead-letters replay --priced" in newest
    assert "2026-05-01 12:00:00" in oldest
    assert "data.calls: must be 1 or more" in oldest
    assert "byok.usage-events, partition 0, offset 1" in oldest
    assert "usage.node_call.v1 <code>&lt;b&gt;x</code> of <code>runner/1</code>" in oldest
    only = re.search(r'<a href="([^"]+)">unpriced_model</a> 2', page)
    page = client.get(unescape(only[1])).text
    assert "2 refused" in page
    assert "invalid_event</a> 1" in page
    assert "data.calls" not in page


def test_the_list_shows_the_newest_and_says_how_many_there_are(client, refused, sign_in):
    for offset in range(120):
        refused.dead_letter("acme", "malformed_json", 100 + offset, failed_at=at(days=3))
    sign_in()
    page = client.get(f"{DEAD_LETTERS}?org_id=acme&all=1").text
    assert "123 refused, the newest 100 shown" in page
    assert page.count("offset ") == 100


def test_every_reason_says_what_to_do():
    assert set(WHAT_TO_DO) == set(Reason)


def test_nobody_sees_dead_letters_of_others(client, refused, sign_in):
    assert 'type="password"' in client.get(f"{DEAD_LETTERS}?org_id=acme").text
    sign_in(org_id="acme")
    assert "3 refused" in client.get(f"{DEAD_LETTERS}?all=1").text
    assert client.get(f"{DEAD_LETTERS}?all=1&org_id=other").status_code == 403
    sign_in("ann", "", org_id="acme", org_role="admin")
    assert client.get(f"{DEAD_LETTERS}?all=1").status_code == 403
    assert "Dead letters" not in client.get("/console/?all=1").text


def test_who_signs_in_again_comes_back_to_the_dead_letters(client):
    where = f"{DEAD_LETTERS}?org_id=acme&all=1&reason=unpriced_model"
    assert f'name="next" value="{escape(where)}"' in client.get(where).text


def test_browsers_find_an_icon(client):
    named = re.search(r'<link rel="icon"[^>]* href="([^"]+)"', client.get("/console/").text)
    for path in (named[1], "/favicon.ico"):
        icon = client.get(path)
        assert (icon.status_code, icon.headers["content-type"]) == (200, "image/svg+xml")


def test_the_heading_of_numbers_stands_over_their_end(client, company, sign_in):
    sign_in()
    receipt = f"/console/receipts/{company.rows()[0]['entry_id']}"
    for page in (client.get(ALL).text, client.get(receipt).text):
        for table in re.findall(r"<table>.*?</table>", page, re.DOTALL):
            heads = re.findall(r"<th scope=\"col\"([^>]*)>", table)
            cells = re.findall(r"<t[hd]([^>]*)>", table.partition("<tbody>")[2].partition("</tr>")[0])
            assert [head.strip() for head in heads] == ['class="number"' * ("number" in cell) for cell in cells]


def test_a_receipt_page_for_every_kind_of_entry(client, company, sign_in):
    sign_in()
    for row in company.rows("event_id IN ('late', 'tokens', 'tool', 'run', 'e1')"):
        page = client.get(f"/console/receipts/{row['entry_id']}")
        assert page.status_code == 200
        assert "agrees with the entry" in page.text
        assert str(row["entry_id"]) in page.text


@pytest.mark.parametrize(
    "query", ["from=tomorrow", "to=1900-01-01", "from=2026-05-03&to=2026-05-02", "provider=" + "x" * 200]
)
def test_a_form_that_cannot_be_used_says_so(client, sign_in, query):
    sign_in()
    page = client.get(f"/console/?org_id=acme&{query}")
    assert page.status_code == 422
    assert "cannot be used" in page.text
