"""Sessions: sealed in cookies, opened with the key alone, within their time; and the way back leads nowhere else."""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from http.cookies import SimpleCookie

import pytest
from starlette.requests import Request
from starlette.responses import Response

from services.console.preferences import Preferences, keep_preferences, read_preferences
from services.console.sign_in.csrf import belongs_to, from_this_site
from services.console.sign_in.sealing import Seals
from services.console.sign_in.session import COOKIE, Session, SessionKeys, SessionTooLongError, forget_session
from services.console.sign_in.way_back import way_back, way_back_of
from services.runtime.settings import SettingsError

NOW = 1_780_000_000
HOUR = 3600
FIRST, SECOND = (urlsafe_b64encode(bytes([number] * 32)).decode() for number in (1, 2))


def keys_of(tmp_path, *keys):
    file = tmp_path / "session.key"
    file.write_text("\n".join(keys) + "\n")
    return SessionKeys(Seals(file), 12 * HOUR)


def cookies_of(response):
    """What a browser keeps of the answer."""
    kept = SimpleCookie()
    for name, value in response.raw_headers:
        if name == b"set-cookie":
            kept.load(value.decode())
    return {name: each.value for name, each in kept.items() if each["max-age"] != "0"}


def written(keys, session, *, secure=False):
    response = Response()
    keys.write(response, session, secure=secure)
    return response


def request(path="/", query="", method="GET", **headers):
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in ({"host": "c.test"} | headers).items()]
    return Request(
        {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": raw,
            "scheme": "http",
            "server": ("c.test", 80),
        }
    )


@pytest.mark.parametrize("length", [10, 3_000, 7_000])
def test_a_session_comes_back_as_it_was_however_long_its_token(tmp_path, length):
    keys = keys_of(tmp_path, FIRST)
    session = Session(secrets.token_urlsafe(length)[:length], NOW, refresh_token="r", ends=NOW + 60)
    kept = cookies_of(written(keys, session))
    assert keys.read(kept, NOW) == session
    assert all(len(name) + len(value) < 4_096 for name, value in kept.items())
    assert not any(session.token[:10] in value for value in kept.values())


def test_what_no_browser_keeps_is_refused(tmp_path):
    with pytest.raises(SessionTooLongError):
        written(keys_of(tmp_path, FIRST), Session(secrets.token_urlsafe(12_000), NOW))


def test_a_shorter_session_leaves_nothing_of_a_longer_one(tmp_path):
    keys = keys_of(tmp_path, FIRST)
    browser = cookies_of(written(keys, Session(secrets.token_urlsafe(7_000), NOW)))
    assert len(browser) > 1
    shorter = written(keys, Session("short", NOW))
    deleted = {name for name in browser if name not in cookies_of(shorter)}
    browser = {name: value for name, value in (browser | cookies_of(shorter)).items() if name not in deleted}
    assert keys.read(browser, NOW).token == "short"


def test_whatever_is_changed_of_a_cookie_nothing_of_it_counts(tmp_path):
    keys = keys_of(tmp_path, FIRST)
    (sealed,) = cookies_of(written(keys, Session("token", NOW))).values()
    for place in range(0, len(sealed), 7):
        other = "A" if sealed[place] != "A" else "B"
        assert keys.read({f"{COOKIE}_0": sealed[:place] + other + sealed[place + 1 :]}, NOW) is None
    for cut in (sealed[:-5], "", "é", "x" * 5_000):
        assert keys.read({f"{COOKIE}_0": cut}, NOW) is None


def test_an_older_key_still_opens_and_the_first_one_seals(tmp_path):
    kept = cookies_of(written(keys_of(tmp_path, FIRST), Session("token", NOW)))
    rotated = keys_of(tmp_path, SECOND, FIRST)
    assert rotated.read(kept, NOW).token == "token"
    kept_anew = cookies_of(written(rotated, Session("token", NOW)))
    only_new = keys_of(tmp_path, SECOND)
    assert only_new.read(kept_anew, NOW).token == "token"
    assert only_new.read(kept, NOW) is None


def test_a_session_ends_after_its_time_however_it_is_used(tmp_path):
    keys = keys_of(tmp_path, FIRST)
    kept = cookies_of(written(keys, Session("token", NOW)))
    assert keys.read(kept, NOW + 12 * HOUR - 1) is not None
    assert keys.read(kept, NOW + 12 * HOUR) is None


@pytest.mark.parametrize("text", ["", "no key", FIRST[:-4]])
def test_a_key_that_cannot_be_used_is_told_at_the_start_and_not_repeated(tmp_path, text):
    with pytest.raises(SettingsError, match="BYOK_CONSOLE_SESSION_KEY_FILE") as told:
        keys_of(tmp_path, text)
    assert not text or text not in str(told.value)
    with pytest.raises(SettingsError, match="BYOK_CONSOLE_SESSION_KEY_FILE"):
        Seals(tmp_path / "none")


def test_neither_the_token_nor_the_word_of_forms_is_in_the_text_of_a_session():
    session = Session("secret-token", NOW, refresh_token="secret-refresh", csrf="secret-word")
    assert "secret" not in repr(session)


@pytest.mark.parametrize("secure", [False, True])
def test_no_script_reaches_the_cookies_and_other_sites_send_them_with_links_alone(tmp_path, secure):
    answers = [written(keys_of(tmp_path, FIRST), Session("token", NOW), secure=secure), Response()]
    forget_session(answers[1], secure=secure)
    for answer in answers:
        for name, value in answer.raw_headers:
            if name == b"set-cookie":
                parts = value.decode().lower().split("; ")
                assert {"httponly", "samesite=lax", "path=/"} <= set(parts)
                assert ("secure" in parts) is secure


@pytest.mark.parametrize(
    ("wanted", "leads"),
    [
        ("/savings", "/savings"),
        ("/savings?from=2026-05-01&provider=openai", "/savings?from=2026-05-01&provider=openai"),
        ("/receipts/4b1f", "/receipts/4b1f"),
        ("/", "/"),
        ("", "/"),
        ("https://evil.test/savings", "/"),
        ("//evil.test/savings", "/"),
        ("/\\evil.test", "/"),
        ("/savings/../../x", "/"),
        ("/savings//evil.test", "/"),
        ("/\t/evil.test", "/"),
        ("/savings\r\nSet-Cookie: a=b", "/"),
        ("/sign-in?next=/sign-in", "/"),
        ("/sign-out", "/"),
        ("javascript:alert(1)", "/"),
        ("/savings?api_key=sk-proj-canary0123456789&model=gpt-5", "/savings?model=gpt-5"),
        ("/sk-proj-canary0123456789", "/"),
        ("/savings?" + "a=b&" * 50, "/"),
        ("/savings?x=" + "y" * 3_000, "/"),
    ],
)
def test_the_way_back_is_a_page_of_ours_and_repeats_no_key(wanted, leads):
    assert way_back(wanted) == leads


def test_from_a_form_the_way_back_is_the_page_that_it_stood_on():
    sent = {"path": "/credentials/7/delete", "method": "POST"}
    assert way_back_of(request(**sent, referer="http://c.test/credentials?org_id=acme")) == "/credentials?org_id=acme"
    assert way_back_of(request(**sent, referer="http://evil.test/credentials")) == "/"
    assert way_back_of(request(**sent)) == "/"
    assert way_back_of(request("/savings", "from=2026-05-01")) == "/savings?from=2026-05-01"


def test_a_form_comes_from_a_page_of_ours_and_has_the_word_of_its_session():
    assert from_this_site(request(sec_fetch_site="same-origin"))
    assert from_this_site(request(origin="http://c.test"))
    assert not from_this_site(request(sec_fetch_site="same-site"))
    assert not from_this_site(request(sec_fetch_site="cross-site", origin="http://c.test"))
    assert not from_this_site(request(origin="http://evil.test"))
    assert not from_this_site(request(origin="null"))
    session = Session("token", NOW)
    assert belongs_to({"csrf": session.csrf}, session)
    for form in ({}, {"csrf": ""}, {"csrf": Session("token", NOW).csrf}, {"csrf": session.csrf + "é"}):
        assert not belongs_to(form, session)


def test_preferences_are_what_can_be_chosen_and_else_the_defaults():
    answer = Response()
    keep_preferences(answer, Preferences("Europe/Berlin", exact=True), secure=False)
    (value,) = cookies_of(answer).values()
    assert read_preferences(request(cookie=f"byok_preferences={value}")) == Preferences("Europe/Berlin", exact=True)
    for made_up in ("Mars/Base|exact", "../../etc/passwd|", "", "|||", "localtime"):
        assert read_preferences(request(cookie=f"byok_preferences={made_up}")).zone == "UTC"
