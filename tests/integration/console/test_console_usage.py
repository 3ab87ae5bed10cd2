"""Usage, receipts, what if and statements in the console: the ledger's figures, whole, escaped, and no one else's."""

from __future__ import annotations

import csv
import io
import json
import re
from html import unescape

import pytest

from services.domain.credits import format_credits
from tests.integration.ledger.ledger_seed import at

ALL = "/usage?all=1&org_id=acme"
MAY = "from=2026-05-01&to=2026-05-31"


def entry_ids(page):
    return re.findall(r'href="/receipts/([0-9a-f-]{36})', page)


def link_named(page, name):
    found = re.search(rf'<a [^>]*href="([^"]+)"[^>]*>{name}</a>', page)
    return found and unescape(found[1])


def test_pages_neither_miss_nor_repeat_an_entry_and_lead_back(client, company, sign_in):
    for number in range(120):
        company.book(f"p{number}", occurred_at=at(days=10, microseconds=number // 3))
    company.place()
    sign_in()
    pages, link = [], f"{ALL}&user_id=ann"
    while link:
        pages.append(client.get(link).text)
        link = link_named(pages[-1], "Older")
    expected = [str(row["entry_id"]) for row in company.rows("org_id = 'acme' AND user_id = 'ann'")]
    assert [each for page in pages for each in entry_ids(page)] == expected
    assert len(pages) == 3
    assert link_named(pages[0], "Newer") is None
    back = client.get(link_named(pages[2], "Newer")).text
    assert entry_ids(back) == entry_ids(pages[1])
    assert "user_id=ann" in link_named(back, "Newer")
    first = client.get(link_named(back, "Newer")).text
    assert entry_ids(first) == entry_ids(pages[0])
    assert link_named(first, "Newer") is None
    assert entry_ids(client.get(link_named(first, "Older")).text) == entry_ids(pages[1])


def test_filters_come_from_lists_and_stay_in_the_url(client, company, sign_in):
    sign_in()
    page = client.get(f"{ALL}&model=gpt-4.1&key_source=byok&team_id=red").text
    for name, value in (("model", "gpt-4.1"), ("key_source", "byok")):
        assert re.search(rf'<select name="{name}">.*?<option value="{value}" selected>', page, re.DOTALL)
    assert '<option value="blue">' in page.partition('<datalist id="of-team_id">')[2].partition("</datalist>")[0]
    (row,) = company.connection.execute(
        "SELECT sum(charged_mc), count(*) FROM ledger.entries"
        " WHERE org_id = 'acme' AND team_id = 'red' AND key_source = 'byok' AND model = 'gpt-4.1'"
    ).fetchall()
    assert f'value="{format_credits(int(row[0]))}"' in page.partition('class="totals"')[2].partition("</section>")[0]
    assert len(entry_ids(page)) == row[1]
    less = re.search(r'<a href="([^"]+)" aria-label="Take away: Team: red">', page)
    assert "key_source=byok" in unescape(less[1])
    assert "team_id" not in less[1]


def test_a_run_and_an_event_are_found_by_their_ids(client, company, sign_in):
    sign_in()
    of_run = entry_ids(client.get(f"{ALL}&run_id=r1").text)
    assert of_run == [str(row["entry_id"]) for row in company.rows("org_id = 'acme' AND run_id = 'r1'")]
    page = client.get(f"{ALL}&event_id=late").text
    assert len(entry_ids(page)) == 3
    for said in ("Taken back", "Corrected", "became known later"):
        assert said in page
    assert "Nothing fits all of these filters" in client.get(f"{ALL}&run_id=none").text


def test_entries_of_no_team_are_those_without_one(client, company, sign_in):
    sign_in()
    page = client.get(f"{ALL}&without=team_id").text
    assert entry_ids(page) == [str(row["entry_id"]) for row in company.rows("org_id = 'acme' AND team_id IS NULL")]
    assert "Without a team" in page
    assert '<input type="hidden" name="without" value="team_id">' in page
    assert client.get(f"{ALL}&without=team_id&team_id=red").status_code == 422


def test_what_customers_choose_stays_text_on_every_page(client, company, sign_in):
    evil = "<b>&\"'"
    entry = company.book(evil, user_id=evil, team_id=evil, run_id=evil, node=evil, occurred_at=at(days=5))
    company.place()
    sign_in()
    for path in (
        f"{ALL}&{MAY}",
        f"/receipts/{entry.entry_id}",
        f"/what-if?org_id=acme&{MAY}",
        "/statement?org_id=acme&month=2026-05",
    ):
        page = client.get(path).text
        assert "&lt;b&gt;" in page
        assert "<b>" not in page
    page = client.get("/usage", params={"org_id": "acme", "all": "1", "run_id": evil, "model": evil}).text
    assert "<b>" not in page


def test_a_member_sees_on_all_pages_what_the_api_shows(client, company, sign_in):
    sign_in("cid", "", org_id="acme", org_role="member")
    page = client.get("/usage?all=1").text
    assert entry_ids(page) == [str(row["entry_id"]) for row in company.rows("org_id = 'acme' AND user_id = 'cid'")]
    suggested = page.partition('<datalist id="of-user_id">')[2].partition("</datalist>")[0]
    assert re.findall(r'value="(\w+)"', suggested) == ["cid"]
    assert "Dead letters" not in page
    file = client.get("/usage/export?all=1&format=jsonl").text
    assert {json.loads(line)["user_id"] for line in file.splitlines()} == {"cid"}
    options = client.get(f"/what-if?{MAY}").text
    assert "You, cid" in options
    assert "Organization</span>" not in options
    refused = client.get("/statement?month=2026-05")
    assert refused.status_code == 403
    assert "An administrator of your organization can" in refused.text


def test_the_file_is_the_selection_and_harmless_in_a_spreadsheet(client, company, sign_in):
    sign_in()
    csv_link = unescape(link_named(client.get(f"{ALL}&event_type=usage.tool_call.v1").text, "CSV"))
    answer = client.get(csv_link)
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    assert "byok-position" in answer.headers
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert row["tool"] == "'=cmd|' /C calc'!A0"
    focus = client.get("/usage/export?all=1&org_id=acme&format=focus")
    assert "BilledCost" in focus.text.splitlines()[0]
    wrong = client.get("/usage/export?all=1&org_id=acme&format=pdf")
    assert (wrong.status_code, "This cannot be used" in wrong.text) == (422, True)


def test_a_receipt_says_what_happened_which_key_and_what_became_of_it(client, company, sign_in):
    sign_in()
    charge, reversal, correction = sorted(
        company.rows("event_id = 'late'"), key=lambda row: ("charge", "reversal", "correction").index(row["kind"])
    )
    page = client.get(f"/receipts/{charge['entry_id']}").text
    assert "since replaced" in page
    assert "There was no key of your own for this provider" in page
    assert page.count("A key&#39;s times became known") == 2
    assert "Takes an earlier entry" in client.get(f"/receipts/{reversal['entry_id']}").text
    now = client.get(f"/receipts/{correction['entry_id']}").text
    assert "Corrected, in force" in now
    assert "The user&#39;s own key was used" in now
    (tokens,) = company.rows("event_id = 'tokens'")
    lines = client.get(f"/receipts/{tokens['entry_id']}").text.partition('id="price"')[2]
    assert re.findall(r'<th scope="row">([^<]+)</th><td data-label="Count" class="number">([\d,]+)', lines) == [
        ("input tokens", "1,000"),
        ("tokens read from the cache", "234"),
        ("output tokens", "77"),
    ]


def test_what_a_key_would_have_saved_leads_to_the_entries_that_cost_more(client, company, sign_in):
    sign_in("ann", "", org_id="acme", org_role="admin")
    page = client.get(f"/what-if?{MAY}").text
    assert "would have saved" in page
    row = page.partition("<tbody>")[2].partition("</tr>")[0]
    charged, with_key, saved = (int(_mc(value)) for value in re.findall(r'<data value="([^"]+)"', row)[:3])
    assert charged - with_key == saved > 0
    link = unescape(re.search(r'<a href="(/usage[^"]+)"', row)[1])
    totals = client.get(link).text.partition('class="totals"')[2]
    assert int(_mc(re.findall(r'<data value="([^"]+)"', totals)[1])) == charged
    assert "level=organization" in unescape(re.search(r'href="(/credentials/new[^"]+)"', page)[1])
    assert "Nothing to save here" in client.get("/what-if?from=2027-01-01&to=2027-01-31").text


def _mc(text):
    whole, _, rest = text.replace(",", "").partition(".")
    return f"{whole}{rest:0<6}"


def test_a_statement_is_the_months_sums_and_can_be_kept(client, company, sign_in):
    sign_in("ann", "", org_id="acme", org_role="admin")
    page = client.get("/statement?month=2026-05").text
    (listed, charged, saved) = company.connection.execute(
        "SELECT sum(list_mc), sum(charged_mc), sum(saved_mc) FROM ledger.entries"
        " WHERE org_id = 'acme' AND occurred_at >= '2026-05-01' AND occurred_at < '2026-06-01'"
    ).fetchone()
    said = [format_credits(int(mc)) for mc in (listed, charged, saved)]
    assert f"List {said[0]} credits, charged <strong>{said[1]} credits</strong>, saved by own keys {said[2]}" in page
    foot = page.partition("<tfoot>")[2].partition("</tfoot>")[0]
    assert re.findall(r'<data value="([^"]+)"', foot) == said
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", body, re.DOTALL):
        (link,) = set(re.findall(r'href="([^"]+)"', row))
        totals = client.get(unescape(link)).text.partition('class="totals"')[2].partition("</section>")[0]
        assert re.findall(r'<data value="([^"]+)"', totals) == re.findall(r'<data value="([^"]+)"', row)
    file = client.get(unescape(link_named(page, "CSV")))
    assert file.headers["content-type"].startswith("text/csv")
    assert "usage_total" in file.text
    position = re.search(r"<dt>Position</dt><dd>(\d+)</dd>", page)[1]
    assert f"Since position {position}" in client.get(f"/statement?month=2026-05&since={position}").text
    assert client.get("/statement?month=May").status_code == 422
    assert "Nothing was used in this month" in client.get("/statement?month=2027-01").text


@pytest.mark.parametrize("path", ["/usage", "/what-if", "/statement?month=2026-05"])
def test_operators_choose_an_organization_first(client, company, sign_in, path):
    sign_in()
    assert client.get(path).url.path == "/organizations"
