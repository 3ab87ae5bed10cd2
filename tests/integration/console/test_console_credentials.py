"""Credentials and models in the console, over a real registry and a real ledger, as a browser asks for them."""

from __future__ import annotations

import itertools
import re
from html import unescape

import httpx
import pytest
from fastapi.testclient import TestClient

from services.console.main import build_app
from tests.integration.console.conftest import served
from tests.integration.console.registry_side import registry_on
from tests.integration.key_registry.provider_server import BAD, GOOD, provider_server
from tests.patience import PATIENCE_SECONDS

EVERYTHING = "credentials:write credentials:lease plans:write registry:backdate ledger:read usage:write"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def registry_url(stack):
    with provider_server() as providers, registry_on(stack, providers) as app, served(app) as url:
        yield url


@pytest.fixture
def client(settings, registry_url):
    with TestClient(build_app(settings(registry_url=registry_url)), base_url="http://console.test") as client:
        yield client


class Acme:
    """One organization of the test's own, its people, and what they do in the console and past it."""

    def __init__(self, client, stack, registry_url, plan):
        self.client, self.stack = client, stack
        self.org = f"acme-{next(_numbers)}"
        headers = {"Authorization": f"Bearer {stack.token('svc', EVERYTHING)}"}
        self.registry = httpx.Client(base_url=registry_url, headers=headers, timeout=PATIENCE_SECONDS)
        self.set_plan(plan)

    def set_plan(self, plan):
        self.registry.put(f"/v1/organizations/{self.org}/plan", json={"plan": plan}).raise_for_status()

    def sign_in(self, user, role="member", **teams):
        token = self.stack.token(user, "", org_id=self.org, org_role=role, teams=teams)
        assert self.client.post("/sign-in/token", data={"token": token}).status_code == 200

    def add(self, level, owner, provider="anthropic", key=GOOD, **more):
        """Past the console."""
        scope = {"type": level, "id": owner}
        body = {"org_id": self.org, "scope": scope, "provider": provider, "api_key": key} | more
        answer = self.registry.post("/v1/credentials", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["credential_id"]

    def shown(self, credential_id):
        return self.registry.get(f"/v1/credentials/{credential_id}").json()

    def page(self, path, **query):
        answer = self.client.get(path, params=query)
        assert answer.status_code == 200, words_of(answer)
        return answer

    def fill(self, page, **fields):
        """Send the form of a page that has a button of this name, with what stands in it."""
        path = page.url.path
        forms = re.findall(rf'<form method="post" action="({re.escape(path)})"[^>]*>(.*?)</form>', page.text, re.S)
        act = fields.get("act")
        inside = next(inside for _, inside in forms if act is None or f'name="act" value="{act}"' in inside)
        hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', inside)
        return self.client.post(path, data={name: unescape(value) for name, value in hidden} | fields)


@pytest.fixture
def acme(client, stack, registry_url):
    return lambda plan="enterprise": Acme(client, stack, registry_url, plan)


def words_of(answer):
    """What a reader reads of the page's main part."""
    main = answer.text.partition("<main")[2].partition("</main>")[0]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", main)).split())


def test_a_key_is_added_trimmed_checked_and_never_shown_again(acme):
    acme = acme()
    acme.sign_in("ann")
    form = acme.page("/credentials/new", level="personal")
    assert "An Ask AI call on claude-sonnet-4-6: 20 → becomes 1 credit" in words_of(form)
    assert "Tokens of agents: 50 % of their list price" in words_of(form)
    key = f"sk-ant-api03-{GOOD}"
    done = acme.fill(form, provider="anthropic", label="<i>mine</i>", api_key=f" \u200b“{key}”\ufeff\n")
    said = words_of(done)
    assert (done.status_code, done.url.path.startswith("/credentials/")) == (200, True)
    assert "Saved. AI calls use this key from now on" in said
    assert "Anthropic takes this key." in said
    assert "An Ask AI call on claude-sonnet-4-6: 20 → becomes 1 credit" in said
    assert key not in done.text
    assert "&lt;i&gt;mine&lt;/i&gt;" in done.text
    assert "<i>" not in done.text
    use = {"org_id": acme.org, "user_id": "ann", "provider": "anthropic"}
    assert acme.registry.post("/v1/lease", json=use).json()["secret"] == key
    listed = words_of(acme.page("/credentials"))
    assert "Anthropic …4321 <i>mine</i> In use Anthropic takes this key" in listed
    assert "Anthropic Your own key" in listed
    assert "OpenAI The platform's key, at the full price There is no key for this provider." in listed


@pytest.mark.parametrize(
    ("provider", "key", "tone", "words"),
    [
        ("openai", BAD, "bad", "OpenAI does not take this key. Copy it again at OpenAI"),
        ("xai", GOOD, "neutral", "xAI could not say whether it takes this key. It cannot be asked from here."),
    ],
)
def test_what_a_provider_does_not_take_or_say_is_told_and_saved(acme, provider, key, tone, words):
    acme = acme()
    acme.sign_in("ann")
    done = acme.fill(acme.page("/credentials/new"), provider=provider, api_key=key)
    assert f'<p class="note {tone}">' in done.text
    assert words in words_of(done)


def test_a_key_that_looks_like_anothers_is_asked_about_and_pasted_again(acme):
    acme = acme()
    acme.sign_in("ann")
    key = f"sk-ant-api03-{GOOD}"
    asked = acme.fill(acme.page("/credentials/new"), provider="openai", label="mine", api_key=key)
    assert asked.status_code == 422
    assert "This looks like a key of Anthropic. Save it for OpenAI nevertheless?" in words_of(asked)
    assert key not in asked.text
    assert 'name="label" maxlength="200" value="mine"' in asked.text
    assert re.search(r'value="openai" required checked', asked.text)
    assert not acme.registry.get("/v1/credentials", params={"org_id": acme.org}).json()["items"]
    # A yes is about the provider that was asked about.
    other = acme.fill(asked, provider="google", api_key=key, sure="openai")
    assert other.status_code == 422
    done = acme.fill(asked, provider="openai", api_key=key, sure="openai")
    assert "OpenAI takes this key." in words_of(done)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"api_key": "", "provider": "openai"}, "Paste a key."),
        ({"api_key": GOOD}, "Select a provider."),
        ({"api_key": GOOD, "provider": "openai", "level": "everything"}, "Say whose key it is to be."),
        ({"api_key": "short", "provider": "openai"}, "It must be 8 to 4096 printable ASCII characters without spaces."),
        ({"api_key": GOOD, "provider": "nobody"}, "This provider takes no own keys"),
        ({"api_key": GOOD, "provider": "openai", "label": f"sk-ant-api03-{GOOD}"}, "The label looks like a key"),
        ({"api_key": GOOD, "provider": f"sk-ant-api03-{GOOD}"}, "Select a provider."),
    ],
)
def test_what_is_refused_is_told_at_the_form_without_the_key(acme, fields, words):
    acme = acme()
    acme.sign_in("ann")
    refused = acme.fill(acme.page("/credentials/new"), **fields)
    assert (refused.status_code, words in words_of(refused)) == (422, True), words_of(refused)
    assert GOOD not in refused.text
    assert not acme.registry.get("/v1/credentials", params={"org_id": acme.org}).json()["items"]


def test_what_stands_in_the_way_of_a_key_is_said_before_and_after(acme):
    acme = acme()
    acme.sign_in("ann", t1="admin")
    empty = acme.page("/credentials/new")
    acme.add("personal", "ann", "openai")
    assert "There is a key for this provider already" in words_of(
        acme.fill(empty, provider="openai", api_key=f"{GOOD}-2")
    )
    acme.add("organization", acme.org, "google")
    enforced = acme.fill(empty, provider="google", api_key=GOOD)
    assert "Your organization has a key for this provider" in words_of(enforced)
    form = words_of(acme.page("/credentials/new"))
    assert "There is a key already: open it to replace it" in form
    assert "Your organization's key is used for everybody." in form
    acme.set_plan("free")
    late = acme.fill(empty, provider="xai", api_key=GOOD)
    assert "The Free plan has no personal keys" in words_of(late)


def test_the_same_form_sent_twice_adds_one_key(acme):
    acme = acme()
    acme.sign_in("ann")
    form = acme.page("/credentials/new")
    first, second = (acme.fill(form, provider="openai", api_key=GOOD) for _ in range(2))
    assert first.url == second.url
    assert len(acme.registry.get("/v1/credentials", params={"org_id": acme.org}).json()["items"]) == 1


def test_the_organizations_key_shadows_a_personal_one_and_a_plan_does(acme):
    acme = acme()
    mine = acme.add("personal", "ann", label="mine")
    acme.add("organization", acme.org, label="everybody's")
    acme.sign_in("ann")
    page = words_of(acme.page("/credentials"))
    assert "mine Your organization's key is used instead" in page
    assert "Anthropic Your organization's key It goes before all others." in page
    detail = words_of(acme.page(f"/credentials/{mine}"))
    assert "Nobody can go around a key that the organization has" in detail
    assert "What it makes of prices" not in detail
    acme.set_plan("free")
    assert "Not used: your plan does not include it" in words_of(acme.page("/credentials"))
    assert "The Free plan has no own keys" in words_of(acme.page("/credentials"))
    acme.set_plan("pro")
    tab = words_of(acme.page("/credentials", level="organization"))
    assert "The Pro plan has no organization keys; Enterprise has." in tab


def test_a_key_is_replaced_brought_back_switched_off_and_on_renamed_checked_and_deleted(acme):
    acme = acme()
    mine = acme.add("personal", "ann", label="mine")
    acme.sign_in("ann")
    path = f"/credentials/{mine}"

    def act(name, **fields):
        return words_of(acme.fill(acme.page(path), act=name, **fields))

    assert "The provider does not take this key" in act("replace", api_key=BAD)
    assert "This looks like a key of Google AI" in act("replace", api_key=f"AIza{GOOD}")
    assert "Replaced. The new key is used from now on." in act("replace", api_key=f"'{GOOD[:-4]}8888'")
    assert acme.shown(mine)["hint"] == "…8888"
    assert "The key before can be brought back until" in words_of(acme.page(path))
    assert "Brought back." in act("bring-back")
    assert acme.shown(mine)["hint"] == "…4321"
    assert "Switched off." in act("switch-off")
    assert acme.shown(mine)["status"] == "disabled"
    assert "Switched on." in act("switch-on")
    assert "Saved: the label was changed." in act("rename", label="<b>ours</b>")
    assert acme.shown(mine)["label"] == "<b>ours</b>"
    assert "<b>" not in acme.page(path).text
    assert "Checked just now" in act("check")
    asked = acme.page(f"{path}/delete")
    assert "charged at the full price from now on: 20 credits in place of 1" in words_of(asked)
    gone = acme.fill(asked)
    assert gone.url.path == "/credentials"
    assert "Deleted. The key was destroyed" in words_of(gone)
    assert acme.shown(mine)["status"] == "deleted"
    assert "Deleted" in words_of(acme.page(path))
    assert "<form" not in acme.page(path).text.partition("<main")[2]


def test_nobody_changes_what_another_has_changed_meanwhile(acme):
    acme = acme()
    mine = acme.add("personal", "ann", label="mine")
    acme.sign_in("ann")
    old, asked = acme.page(f"/credentials/{mine}"), acme.page(f"/credentials/{mine}/delete")
    acme.registry.patch(f"/v1/credentials/{mine}", json={"label": "changed"}).raise_for_status()
    for page, fields in ((old, {"act": "switch-off"}), (old, {"act": "rename", "label": "x"}), (asked, {})):
        refused = acme.fill(page, **fields)
        assert refused.status_code == 412
        assert "Somebody else has changed this key meanwhile" in words_of(refused)
    assert (acme.shown(mine)["label"], acme.shown(mine)["status"]) == ("changed", "active")
    # What is shown then is how it is now, so that one can decide anew.
    assert acme.fill(acme.fill(old, act="switch-off"), act="switch-off").status_code == 200
    assert acme.shown(mine)["status"] == "disabled"


def test_one_sees_and_may_do_no_more_than_the_registry_says(acme):
    acme = acme()
    bobs = acme.add("personal", "bob", label="secret plans")
    acme.add("team", "t2", label="of another team")
    ours = acme.add("team", "t1", label="our team's")
    acme.sign_in("ann", t1="member")
    for query in ({}, {"level": "team", "id": "t2"}, {"level": "all"}, {"level": "organization"}):
        page = words_of(acme.page("/credentials", **query))
        assert not {"secret plans", "of another team", "bob"} & set(page.split("  "))
        assert "secret plans" not in page
        assert "of another team" not in page
    assert acme.client.get(f"/credentials/{bobs}").status_code == 404
    team = acme.page(f"/credentials/{ours}")
    assert "our team's" in words_of(team)
    assert "<form" not in team.text.partition("<main")[2]
    assert "History" not in words_of(team)
    denied = words_of(acme.page("/credentials/new", level="team", id="t1"))
    assert "You may not add a key here" in denied
    acme.sign_in("ada", "admin")
    everybody = words_of(acme.page("/credentials", level="all"))
    assert "bob's own" in everybody
    assert "secret plans" not in everybody
    detail = words_of(acme.page(f"/credentials/{bobs}"))
    assert "You see that this key exists, and may delete it." in detail
    assert "Replace the key" not in detail
    assert acme.fill(acme.page(f"/credentials/{bobs}/delete")).url.params["level"] == "all"
    assert acme.shown(bobs)["status"] == "deleted"


def test_an_admin_reads_the_history_of_a_key_without_its_leases(acme):
    acme = acme()
    ours = acme.add("organization", acme.org)
    use = {"org_id": acme.org, "user_id": "ann", "provider": "anthropic"}
    acme.registry.post("/v1/lease", json=use).raise_for_status()
    acme.registry.patch(f"/v1/credentials/{ours}", json={"enabled": False}).raise_for_status()
    acme.sign_in("ada", "admin")
    history = words_of(acme.page(f"/credentials/{ours}")).partition("History")[2]
    assert re.search(r"Switched off svc done .* Added: valid svc done", history), history
    assert "lease" not in history


def test_a_form_from_elsewhere_and_an_unknown_act_change_nothing(acme):
    acme = acme()
    mine = acme.add("personal", "ann")
    acme.sign_in("ann")
    for path in ("/credentials/new", f"/credentials/{mine}", f"/credentials/{mine}/delete"):
        assert acme.client.post(path, data={"act": "switch-off", "api_key": GOOD}).status_code == 403
    assert acme.fill(acme.page(f"/credentials/{mine}"), act="check").status_code == 200
    page = acme.page(f"/credentials/{mine}")
    odd = {"csrf": re.search(r'name="csrf" value="([^"]+)"', page.text)[1], "seen": "é\n", "act": "switch-off"}
    assert acme.client.post(page.url.path, data=odd).status_code in (412, 422)
    assert acme.client.post(page.url.path, data=odd | {"act": "<b>"}).status_code == 200
    assert acme.shown(mine)["status"] == "active"


def test_operators_add_for_anybody_of_the_organization_they_chose(acme, sign_in):
    acme = acme()
    sign_in("ops", EVERYTHING, org_id="*", org_role="admin")
    assert acme.page("/credentials").url.path == "/organizations"
    page = acme.page("/credentials", org_id=acme.org)
    assert "Which key applies" not in words_of(page)
    form = acme.page("/credentials/new", org_id=acme.org, level="personal")
    path = unescape(re.search(r'action="(/credentials/new[^"]*)"', form.text)[1])
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form.text))
    fields = hidden | {"id": "bob", "provider": "openai", "api_key": GOOD}
    done = acme.client.post(path, data=fields)
    assert "bob's own" in words_of(done)
    assert done.url.params["org_id"] == acme.org


def test_models_show_prices_with_and_without_a_key_of_any_day(acme):
    acme = acme()
    acme.sign_in("ann")
    page = acme.page("/models", search="sonnet-4-6")
    said = words_of(page)
    assert "claude-sonnet-4-6 more about claude-sonnet-4-6" in said
    assert re.search(r"advanced 20 1 3 600 300 0.3 60 30 15 3,000 1,500$", said), said
    assert "Rate card 2026-11-20, in force since 2026-11-20 00:00:00" in said
    assert "With processing batch: input $1.5" in said
    assert "With region us: tokens × 1.1" in said
    earlier = words_of(acme.page("/models", search="sonnet-4-6", day="2026-05-01"))
    assert "Rate card 2026-04-27, in force since 2026-04-27 00:00:00 ; prices as of 2026-05-01 (UTC)" in earlier
    by_alias = words_of(acme.page("/models", search="anthropic.claude-opus-4-7"))
    assert "claude-opus-4-7" in by_alias
    assert "gpt" not in by_alias.partition("Rate card")[2]
    other = words_of(acme.page("/models", provider="perplexity"))
    assert "Perplexity takes no own keys" in other
    assert re.search(r"sonar standard 2 – 1 200 – 1 200 – 1 200 –", other), other
    nothing = acme.page("/models", search="<script>")
    assert "No model of that name" in words_of(nothing)
    assert "<script" not in nothing.text
    assert acme.client.get("/models", params={"day": "yesterday"}).status_code == 422
