"""Signing in at an identity provider, renewal and signing out, over HTTP: console, provider, ledger, key registry."""

from __future__ import annotations

import json
import re
import time
from contextlib import ExitStack
from html import unescape
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.fernet import Fernet
from fastapi.testclient import TestClient

from services.console.main import build_app
from services.console.sign_in.attempts import COOKIE as ATTEMPT
from services.console.sign_in.session import COOKIE
from services.key_registry.api.callers import CallLimits
from services.key_registry.api.routes import BODY_BYTES_MAX, registry_app
from services.key_registry.database.sessions import open_engine, sessions_on
from services.key_registry.handlers.registry import Registry
from services.key_registry.keyring.envelopes import load_keyring
from services.key_registry.metrics import registry_metrics
from services.key_registry.migrations import upgrade
from services.local.data_dir import DataDir
from services.runtime.rate_limit import RateLimit
from services.runtime.request_bodies import BodyBounds
from services.runtime.settings import HttpSettings, SettingsError, TokenSettings
from services.runtime.tokens import TokenVerifier
from tests.integration.console.conftest import served
from tests.oidc_provider import AUDIENCE, CLIENT, SECRET, oidc_provider
from tests.patience import PATIENCE_SECONDS

BASE = "http://console.test"
PEOPLE = {
    "ann": {"organizations": ["acme"], "groups": ["staff", "byok-admins", "growth-leads"]},
    "cid": {"organizations": ["acme"], "groups": ["staff"]},
    "homeless": {"groups": ["staff"]},
    "torn": {"organizations": ["acme", "other"], "groups": []},
}
TABLE = {
    "organization": {"claim": "organizations"},
    "groups": "groups",
    "admins": ["byok-admins"],
    "teams": [{"pattern": "(?P<team>[a-z]+)-leads", "role": "admin"}],
}


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    with oidc_provider(tmp_path_factory.mktemp("provider"), served, PEOPLE) as running:
        yield running


@pytest.fixture(autouse=True)
def _as_it_should_be(request):
    """What a test changed about the provider is undone."""
    if "provider" in request.fixturenames:
        provider = request.getfixturevalue("provider")
        vars(provider).update(
            people=PEOPLE, refuses=None, away=False, lifetime=600, audience=AUDIENCE, id_token={}, issuer=None
        )
        vars(provider).update(refresh_tokens={}, used=set(), revoked=[], renewals=0)


@pytest.fixture(scope="module")
def claims_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("claims") / "claims.json"
    file.write_text(json.dumps(TABLE))
    return file


@pytest.fixture(scope="module")
def tokens_of(provider, claims_file):
    """The settings by which services take the provider's tokens."""
    return {
        "jwt_issuer": provider.url,
        "jwt_audience": AUDIENCE,
        "jwt_jwks_file": provider.key.jwks_file,
        "jwt_claims_file": claims_file,
    }


@pytest.fixture(scope="module")
def registry_url(stack, tokens_of, tmp_path_factory):
    """A key registry on a database of its own."""
    upgrade(stack.dsn("registry_owner", "registry"))
    data = DataDir(tmp_path_factory.mktemp("registry"))
    data.create()
    engine = open_engine(stack.dsn("registry_service", "registry"))
    registry = Registry(sessions_on(engine), load_keyring(data.kek_file()))
    limits = CallLimits(RateLimit(1e6, 10**6), RateLimit(1e6, 10**6))
    bodies = BodyBounds.of(HttpSettings(), BODY_BYTES_MAX)
    verifier = TokenVerifier(TokenSettings(env="development", **tokens_of))
    with served(registry_app(registry, verifier, registry_metrics(registry.sessions), {}, limits, bodies)) as url:
        yield url
    engine.dispose()


@pytest.fixture(scope="module")
def session_keys(tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "session.key"
    file.write_text(Fernet.generate_key().decode())
    file.chmod(0o600)
    return file


@pytest.fixture
def console(settings, provider, registry_url, tokens_of, session_keys, tmp_path):
    """Starts a console process's application; ``console(console_public_url=…)`` is another."""
    secret = tmp_path / "client-secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    with ExitStack() as running:

        def started(**more):
            own = {
                "registry_url": registry_url,
                "console_session_key_file": session_keys,
                "console_session_check_seconds": 0,
                "console_oidc_issuer": provider.url,
                "console_oidc_client_id": CLIENT,
                "console_oidc_client_secret_file": secret,
            }
            app = build_app(settings(**tokens_of | own | more))
            return running.enter_context(TestClient(app, base_url=BASE, follow_redirects=False))

        yield started


def begun(client, wanted="/preferences"):
    """Where the provider sends the browser back to, after somebody began to sign in."""
    started = client.get("/sign-in/start", params={"next": wanted})
    assert started.status_code == 303
    with httpx.Client(timeout=PATIENCE_SECONDS) as browser:
        return browser.get(started.headers["location"]).headers["location"]


def sign_in(client, wanted="/preferences"):
    answer = client.get(begun(client, wanted))
    assert (answer.status_code, answer.headers["location"]) == (303, wanted), answer.text
    return answer


def person(provider, name):
    provider.people = {name: PEOPLE[name]}


def csrf_of(page):
    return re.search(r'name="csrf" value="([^"]+)"', page.text)[1]


def refusal(answer):
    """What the page says in words."""
    assert "set-cookie" not in answer.headers or f"{COOKIE}_0=g" not in answer.headers["set-cookie"]
    return unescape(re.search(r'role="alert">([^<]+)<', answer.text)[1])


def out(answer):
    return answer.status_code == 303 and answer.headers["location"].startswith("/sign-in")


def test_somebody_signs_in_with_groups_as_roles_and_the_services_take_the_token(console):
    client = console()
    page = client.get("/sign-in?next=/preferences").text
    assert 'href="/sign-in/start?next=%2Fpreferences"' in page or 'href="/sign-in/start?next=/preferences"' in page
    assert 'type="password"' not in page
    answer = sign_in(client)
    assert not [name for name in client.cookies if name.startswith(ATTEMPT)]
    kept = answer.headers["set-cookie"].lower()
    assert "httponly" in kept
    assert answer.headers["cache-control"] == "no-store"
    page = client.get("/preferences").text
    assert '<span class="visually-hidden">Signed in as: </span>ann' in page
    for other in ("/sign-in/token", "/sign-in/persona"):
        assert client.post(other, data={"token": "x"}).status_code == 404


def test_what_is_sent_to_the_provider_is_what_the_protocol_asks_for(console, provider):
    client = console()
    started = client.get("/sign-in/start?next=/preferences")
    url = urlsplit(started.headers["location"])
    said = {name: value for name, (value,) in parse_qs(url.query).items()}
    assert f"{url.scheme}://{url.netloc}" == provider.url
    assert said["redirect_uri"] == f"{BASE}/sign-in/callback"
    assert (said["code_challenge_method"], said["response_type"], said["scope"]) == ("S256", "code", "openid profile")
    assert len({said["state"], said["nonce"], said["code_challenge"]}) == 3
    assert min(len(said[name]) for name in ("state", "nonce", "code_challenge")) >= 43
    cookie = started.headers["set-cookie"]
    assert not any(said[name] in cookie for name in ("state", "nonce"))
    assert {"HttpOnly", "SameSite=lax", "Path=/sign-in", "Max-Age=600"} <= set(cookie.split("; "))
    elsewhere = console(console_public_url="https://credits.example")
    said = parse_qs(urlsplit(elsewhere.get("/sign-in/start").headers["location"]).query)
    assert said["redirect_uri"] == ["https://credits.example/sign-in/callback"]


def test_a_member_is_no_admin_and_sees_what_a_member_sees(console, provider, company):
    client = console(ledger_url="http://127.0.0.1:9")
    person(provider, "cid")
    sign_in(client)
    assert '<span class="visually-hidden">Organization: </span>acme' in client.get("/preferences").text


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"refuses": "access_denied"}, 403, "You did not let your identity provider tell who you are"),
        ({"id_token": {"nonce": "another"}}, 403, "about another attempt"),
        ({"id_token": {"aud": "another"}}, 403, "for another application"),
        ({"id_token": {"exp": 1}}, 403, "did not let you in"),
        ({"audience": "another"}, 403, "for another audience"),
        ({"people": {"homeless": PEOPLE["homeless"]}}, 403, "You belong to no organization"),
        ({"people": {"torn": PEOPLE["torn"]}}, 403, "You belong to several organizations"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_whoever_is_not_let_in_is_told_why_in_words(console, provider, change, status, words):
    client = console()
    vars(provider).update(change)
    answer = client.get(begun(client, "/preferences?next=/x"))
    assert answer.status_code == status
    assert words in refusal(answer)
    assert not any(name.startswith(COOKIE) for name in client.cookies)
    # To try again, or as somebody else, and come to the same page.
    assert "/sign-in/start?next=" in answer.text
    assert f"{provider.url}/end-session?client_id={CLIENT}" in unescape(answer.text)
    assert out(client.get("/preferences"))


def test_an_attempt_counts_once_in_the_browser_that_began_it_and_unchanged(console, provider):
    client, another = console(), console()
    back = begun(client)
    assert "begun in another browser" in refusal(another.get(back))
    assert "begun in another browser" in refusal(client.get(back.replace("state=", "state=x")))
    assert "begun in another browser" in refusal(client.get("/sign-in/callback"))
    (name,) = [name for name in client.cookies if name.startswith(ATTEMPT)]
    sealed = client.cookies[name]
    client.cookies.set(name, sealed[:-10] + ("A" if sealed[-10] != "A" else "B") + sealed[-9:], path="/sign-in")
    assert "begun in another browser" in refusal(client.get(back))
    client = console()
    back = begun(client)
    assert client.get(back).headers["location"] == "/preferences"
    assert "is over" in refusal(client.get(back))


def test_what_is_sealed_for_an_attempt_is_no_session(console):
    client = console()
    begun(client)
    (sealed,) = [value for name, value in client.cookies.items() if name.startswith(ATTEMPT)]
    client.cookies.set(f"{COOKIE}_0", sealed)
    assert out(client.get("/preferences"))


def test_a_code_that_is_too_old_and_a_sender_that_is_another_are_refused(console, provider):
    client = console()
    back = begun(client)
    provider.expire_codes()
    assert "too old" in refusal(client.get(back))
    back = begun(client)
    assert "Another identity provider" in refusal(client.get(re.sub(r"iss=[^&]+", "iss=https%3A%2F%2Fevil", back)))
    back = begun(client)
    assert "Another identity provider" in refusal(client.get(re.sub(r"&?iss=[^&]+", "", back)))


def test_two_tabs_sign_in_beside_each_other(console):
    client = console()
    first, second = begun(client, "/preferences?next=/1"), begun(client, "/preferences?next=/2")
    assert client.get(second).headers["location"] == "/preferences?next=%2F2"
    assert client.get(first).headers["location"] == "/preferences?next=%2F1"
    for _ in range(12):
        begun(client)
    assert len([name for name in client.cookies if name.startswith(ATTEMPT)]) <= 6


@pytest.mark.parametrize("elsewhere", ["https://evil.test/", "//evil.test", "/\\evil.test", "/sign-in/start"])
def test_signing_in_leads_to_no_other_site(console, elsewhere):
    client = console()
    assert client.get(begun(client, elsewhere)).headers["location"] == "/"


def test_a_provider_that_is_away_is_said_to_be_and_comes_back(console, provider, monkeypatch):
    monkeypatch.setattr("services.console.sign_in.provider._AGAIN_SECONDS", 0)
    client = console()
    provider.away = True
    answer = client.get("/sign-in/start?next=/preferences")
    assert answer.status_code == 503
    assert "does not answer" in refusal(answer)
    assert client.get("/sign-in").status_code == 200
    provider.away = False
    back = begun(client)
    provider.away = True
    assert "does not answer" in refusal(client.get(back))
    provider.away = False
    sign_in(client)
    provider.issuer = "https://another.example"
    assert "does not answer" in refusal(console().get("/sign-in/start"))


@pytest.fixture
def all_due(monkeypatch):
    """Makes every token one that is about to end."""
    return lambda: monkeypatch.setattr("services.console.sign_in.session._LATEST_SECONDS", 3600)


def when(condition):
    """Waits until it holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_session_is_renewed_before_its_token_ends_and_stays_the_same(console, provider, all_due):
    client = console()
    sign_in(client)
    before, word = client.cookies[f"{COOKIE}_0"], csrf_of(client.get("/preferences"))
    assert provider.renewals == 0
    all_due()
    page = client.get("/preferences")
    assert (page.status_code, provider.renewals) == (200, 1)
    assert client.cookies[f"{COOKIE}_0"] != before
    assert csrf_of(page) == word


def test_requests_at_once_and_those_that_come_with_the_session_of_before_renew_it_once(console, provider, all_due):
    client, other_process = console(), console()
    sign_in(client)
    before = dict(client.cookies)
    all_due()
    assert client.get("/preferences").status_code == 200
    # Another tab, with what it had before: in this process, and in one that knows nothing of it.
    for process in (client, other_process):
        for name, value in before.items():
            process.cookies.set(name, value)
        assert process.get("/preferences").status_code == 200
    assert provider.renewals == 1


def test_what_cannot_be_renewed_goes_on_until_its_end_and_then_leads_to_signing_in(console, provider):
    client = console(jwt_leeway_seconds=0)
    provider.lifetime = 3
    sign_in(client)
    provider.refresh_tokens.clear()
    assert client.get("/preferences").status_code == 200
    when(lambda: out(client.get("/preferences")))
    back = client.get("/preferences?next=/x")
    assert "next=%2Fpreferences%3Fnext%3D%252Fx" in back.headers["location"]
    assert "Your session has ended" in client.get(back.headers["location"]).text


def test_while_the_provider_is_away_a_session_waits_for_it(console, provider, monkeypatch):
    monkeypatch.setattr("services.console.sign_in.renewal._AGAIN_SECONDS", 0)
    client = console(jwt_leeway_seconds=0)
    provider.lifetime = 3
    sign_in(client)
    provider.away = True
    assert client.get("/preferences").status_code == 200
    when(lambda: client.get("/preferences").status_code == 503)
    assert "Your identity provider is away" in client.get("/preferences").text
    provider.away, provider.lifetime = False, 600
    assert client.get("/preferences").status_code == 200
    assert provider.renewals == 1


def test_signing_out_revokes_the_refresh_token_and_leads_to_the_provider_by_a_link(console, provider, all_due):
    client = console()
    sign_in(client)
    (refresh,) = provider.refresh_tokens
    word = csrf_of(client.get("/preferences"))
    all_due()
    answer = client.post("/sign-out", data={"csrf": word})
    assert answer.headers["location"] == "/sign-in?said=signed_out"
    # Renewed on the way, and revoked nevertheless; what was renewed is not kept by the browser.
    assert provider.revoked
    assert refresh in provider.used
    assert provider.refresh_tokens == {}
    assert not any(name.startswith(COOKIE) for name in client.cookies)
    page = client.get(answer.headers["location"])
    link = unescape(re.search(r'href="([^"]+end-session[^"]*)"', page.text)[1])
    assert parse_qs(urlsplit(link).query) == {
        "client_id": [CLIENT],
        "post_logout_redirect_uri": [f"{BASE}/sign-in"],
    }


def test_signing_out_everywhere_ends_sessions_in_other_browsers_and_other_processes(console, provider):
    here, there, other_process = console(), console(), console()
    sign_in(here)
    sign_in(there)
    person(provider, "cid")
    sign_in(other_process)
    for name, value in there.cookies.items():
        if name.startswith(COOKIE):
            assert value not in other_process.cookies.values()
    everywhere = here.post("/sign-out/everywhere", data={"csrf": csrf_of(here.get("/preferences"))})
    assert everywhere.headers["location"] == "/sign-in?said=everywhere"
    assert out(there.get("/preferences"))
    # Of nobody else.
    assert other_process.get("/preferences").status_code == 200
    # And whoever signs in again is in.
    vars(provider).update(people=PEOPLE)
    sign_in(there)
    assert there.get("/preferences").status_code == 200


def test_where_the_registry_is_away_one_reads_on_and_changes_nothing(console, provider):
    away = console(registry_url="http://127.0.0.1:9")
    sign_in(away)
    page = away.get("/preferences")
    assert page.status_code == 200
    form = {"csrf": csrf_of(page), "zone": "Asia/Tokyo"}
    assert away.post("/preferences", data=form).status_code == 303
    failed = away.post("/sign-out/everywhere", data=form)
    assert failed.status_code == 503
    assert "The key registry is away" in failed.text
    assert away.get("/preferences").status_code == 200
    # Signed in while nobody could say anything, and ended since.
    ended = console()
    for name, value in away.cookies.items():
        ended.cookies.set(name, value)
    also = console()
    sign_in(also)
    also.post("/sign-out/everywhere", data={"csrf": csrf_of(also.get("/preferences"))})
    assert out(ended.get("/preferences"))
    assert away.get("/preferences").status_code == 200


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"console_oidc_client_id": None}, "BYOK_CONSOLE_OIDC_CLIENT_ID"),
        ({"console_oidc_issuer": "ftp://x"}, "BYOK_CONSOLE_OIDC_ISSUER"),
        ({"env": "production"}, "BYOK_CONSOLE_OIDC_ISSUER must begin with https"),
    ],
)
def test_settings_that_cannot_be_used_are_told_at_the_start(console, wrong, says):
    with pytest.raises(SettingsError, match=says):
        console(**wrong)


def test_personas_are_never_there_beside_a_provider(console, tmp_path):
    file = tmp_path / "personas.json"
    file.write_text(json.dumps([{"name": "Ann", "about": "admin", "token": "x"}]))
    assert "Ann" not in console(console_personas_file=file).get("/sign-in").text
