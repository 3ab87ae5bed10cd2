"""Savings, dead letters and receipts in the console: the API's numbers, escaped, and no more than one may see."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest

from schemas.dead_letters import Reason
from services.console.breakdowns import BREAKDOWNS
from services.console.months import this_against_last
from services.console.words import WHAT_TO_DO
from services.domain.credits import format_credits, format_credits_roughly
from tests.integration.ledger.ledger_seed import at

ALL = "/savings?all=1&org_id=acme"
DEAD_LETTERS = "/usage/dead-letters"


def test_the_savings_page_shows_the_sums_of_the_table(client, company, sign_in):
    sign_in()
    page = client.get(ALL).text
    sums = company.connection.execute(
        "SELECT sum(list_mc), sum(charged_mc), sum(saved_mc) FROM ledger.entries WHERE org_id = 'acme'"
    ).fetchone()
    for total in sums:
        exact, rough = format_credits(int(total)), format_credits_roughly(int(total))
        assert f'<data value="{exact}" title="exactly {exact} credits">{rough}</data></a></p>' in page
    assert "<svg" in page


def test_dates_are_whole_days_and_by_day(client, company, sign_in):
    sign_in()
    page = client.get("/savings?org_id=acme&from=2026-05-02&to=2026-05-03").text
    assert re.findall(r'<th scope="row">(2026-\d\d-\d\d)</th>', page) == ["2026-05-02", "2026-05-03"]
    assert "Credits by day" in page
    nothing = client.get("/savings?org_id=acme&from=2027-01-01").text
    assert "Nothing was used in this time" in nothing


def test_all_time_is_all_of_it_although_the_form_sends_its_dates_along(client, company, sign_in):
    sign_in()
    page = client.get(f"{ALL}&from=2027-01-01&to=2027-01-31").text
    assert "Nothing was used" not in page
    assert 'name="from" value=""' in page


def test_a_day_without_use_is_a_gap_in_the_bars_and_not_a_day_less(client, company, sign_in):
    sign_in()
    page = client.get("/savings?org_id=acme&from=2026-04-29&to=2026-05-05").text
    days = re.findall(r'<th scope="row">(2026-\d\d-\d\d)</th>', page)
    assert days == [f"2026-{day}" for day in ("04-29", "04-30", "05-01", "05-02", "05-03", "05-04", "05-05")]
    assert "2026-04-29: list 0, charged 0, saved 0" in page


def test_names_that_customers_choose_are_escaped(client, company, sign_in):
    company.book("x", user_id="<script>alert(1)</script>", team_id='"><b>', occurred_at=at(days=60))
    company.place()
    sign_in()
    for by in ("user", "team"):
        page = client.get(f"{ALL}&by={by}").text
        assert ("&lt;script&gt;alert(1)&lt;/script&gt;" if by == "user" else "&#34;&gt;&lt;b&gt;") in page
        assert "<script" not in page
        assert "<b>" not in page
    quoted = client.get("/savings", params={"org_id": '"><img src=x>', "all": "1", "model": "<i>"}).text
    assert "<img src=x" not in quoted
    assert "<i>" not in quoted


def test_people_see_what_the_api_shows_them(client, company, sign_in):
    sign_in("cid", "", org_id="acme", org_role="member")
    page = client.get("/savings?all=1&by=user").text
    assert "Savings of acme" in page
    assert "Dead letters" not in page
    assert [name for name, _ in rows_of(page)] == ["cid"]
    assert client.get("/savings?all=1&org_id=other").status_code == 403
    anns = company.rows("event_id = 'e0'")[0]["entry_id"]
    assert client.get(f"/receipts/{anns}").status_code == 404


def rows_of(page):
    """Of the table by something each name and the link of its amounts."""
    table = page.partition('id="by"')[2].partition("</table>")[0]
    rows = re.findall(r'<th scope="row">(.*?)</th><td[^>]*><a href="([^"]+)"', table)
    return [(unescape(name), unescape(link)) for name, link in rows]


def sums_of(page):
    """What a page of usage says of all that is selected, exactly: list, charged, saved, and how many events."""
    totals = page.partition('class="totals"')[2].partition("</section>")[0]
    amounts = re.findall(r'<data value="([^"]+)"', totals)
    return [*amounts, re.search(r">([\d,]+)</p><p class=\"unit\">each", totals)[1]]


@pytest.mark.parametrize("by", BREAKDOWNS)
def test_every_figure_leads_to_entries_that_come_to_the_same(client, company, sign_in, by):
    sign_in()
    page = client.get(f"{ALL}&by={by}&rows=all").text
    table = page.partition('id="by"')[2].partition("</table>")[0]
    rows = re.findall(r"<tr><th scope=\"row\">.*?</tr>", table, re.DOTALL)
    assert rows
    total = 0
    for row in rows:
        (link,) = set(re.findall(r'href="([^"]+)"', row))
        figures = [*re.findall(r'<data value="([^"]+)"', row), re.search(r'">([\d,]+)</a>', row)[1]]
        assert sums_of(client.get(unescape(link)).text) == figures
        total += int(figures[-1])
    (events,) = company.connection.execute(
        "SELECT count(DISTINCT event_id) FROM ledger.entries WHERE org_id = 'acme'"
    ).fetchone()
    assert total == events


def test_the_figures_of_a_day_and_of_the_whole_lead_to_their_entries(client, company, sign_in):
    sign_in()
    page = client.get("/savings?org_id=acme&from=2026-05-01&to=2026-05-04").text
    day = re.search(r'<th scope="row">2026-05-02</th>(.*?)</tr>', page, re.DOTALL)[1]
    (link,) = set(re.findall(r'href="([^"]+)"', day))
    assert sums_of(client.get(unescape(link)).text)[:3] == re.findall(r'<data value="([^"]+)"', day)
    whole = page.partition('class="totals"')[2].partition("</section>")[0]
    (link,) = set(re.findall(r'href="(/usage\?[^"]+)"', whole))
    assert sums_of(client.get(unescape(link)).text)[:3] == re.findall(r'<data value="([^"]+)"', whole)


def test_this_month_is_compared_with_as_many_days_of_the_last(client, company, sign_in):
    now = datetime.now(UTC)
    company.book("now", occurred_at=now.replace(day=1, hour=0), calls=7)
    before = now.replace(day=1, hour=0) - timedelta(days=1)
    company.book("then", occurred_at=before.replace(day=1), calls=3)
    company.place()
    sign_in()
    page = client.get("/savings?org_id=acme").text
    table = page.partition('id="compared"')[2].partition("</table>")[0]
    compared = this_against_last(now.date())
    assert f"over {compared.this.last.day} day" in table
    this, last = re.findall(r"<tr>(<th scope=\"row\">.*?)</tr>", table, re.DOTALL)
    for row, amount in ((this, "140"), (last, "60")):
        assert re.findall(r'<data value="([^"]+)"', row)[0] == amount
        (link,) = set(re.findall(r'href="([^"]+)"', row))
        assert sums_of(client.get(unescape(link)).text)[0] == amount


def test_days_are_those_of_the_readers_zone_in_the_sums_too(client, company, sign_in):
    company.book("eve", occurred_at=datetime(2026, 6, 1, 20, tzinfo=UTC), calls=5)
    company.place()
    sign_in()
    client.cookies.set("byok_preferences", "Asia/Kathmandu|", domain="console.test")
    listed = client.get("/usage?org_id=acme&from=2026-06-02&to=2026-06-02").text
    assert "2026-06-02 01:45:00" in listed
    assert sums_of(listed)[3] == "1"
    assert "No entries" in client.get("/usage?org_id=acme&from=2026-06-01&to=2026-06-01").text


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
    shown, _, link = card_of_dead_letters(client.get(f"/savings?org_id=acme&{filters}").text)
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
    newest, _, oldest = re.findall(r"<tr>(<td .*?)</tr>", page, re.DOTALL)
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
    assert "123 refused" in page
    assert page.count("offset ") == 100
    older = re.search(r'<a class="button quiet" href="([^"]+)">Older</a>', page)
    page = client.get(unescape(older[1])).text
    assert page.count("offset ") == 23
    assert "Older" not in page


def test_every_reason_says_what_to_do():
    assert set(WHAT_TO_DO) == set(Reason)


def test_nobody_sees_dead_letters_of_others(client, refused, sign_in):
    sign_in(org_id="acme")
    assert "3 refused" in client.get(f"{DEAD_LETTERS}?all=1").text
    assert client.get(f"{DEAD_LETTERS}?all=1&org_id=other").status_code == 403
    sign_in("ann", "", org_id="acme", org_role="admin")
    assert client.get(f"{DEAD_LETTERS}?all=1").status_code == 403
    assert "Dead letters" not in client.get("/savings?all=1").text


def test_the_heading_of_numbers_stands_over_their_end(client, company, sign_in):
    sign_in()
    receipt = f"/receipts/{company.rows()[0]['entry_id']}"
    for page in (client.get(ALL).text, client.get(receipt).text):
        for table in re.findall(r"<table[^>]*>.*?</table>", page, re.DOTALL):
            heads = re.findall(r"<th scope=\"col\"([^>]*)>", table)
            row = re.sub(r'data-label="[^"]*" ?', "", table.partition("<tbody>")[2].partition("</tr>")[0])
            cells = re.findall(r"<t[hd]([^>]*)>", row)
            assert [head.strip() for head in heads] == ['class="number"' * ("number" in cell) for cell in cells]


def test_a_receipt_page_for_every_kind_of_entry(client, company, sign_in):
    sign_in()
    for row in company.rows("event_id IN ('late', 'tokens', 'tool', 'run', 'e1')"):
        page = client.get(f"/receipts/{row['entry_id']}")
        assert page.status_code == 200
        assert "agrees with the entry" in page.text
        assert str(row["entry_id"]) in page.text


@pytest.mark.parametrize(
    "query", ["from=tomorrow", "to=1900-01-01", "from=2026-05-03&to=2026-05-02", "provider=" + "x" * 200]
)
def test_a_form_that_cannot_be_used_says_so(client, sign_in, query):
    sign_in()
    page = client.get(f"/savings?org_id=acme&{query}")
    assert page.status_code == 422
    assert "cannot be used" in page.text
