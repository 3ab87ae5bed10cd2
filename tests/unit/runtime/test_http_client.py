"""Others are asked through the environment's proxies, with the system's certificates, and never beyond a redirect."""

from __future__ import annotations

import ssl
import subprocess
import sys

import httpx
import pytest

from services.runtime.http_client import client_options, environment_proxy, http_client
from services.runtime.jwks import read_url
from tests.unit.runtime.key_server import document, ed25519, key_server

PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://keys.example/jwks", "http://plain.example:1"),
        ("https://keys.example/jwks", "http://named.without.a.scheme:2"),
        ("https://user@near.example:8443/", None),
        ("https://near.example/", "http://named.without.a.scheme:2"),
        ("https://sub.far.example/", None),
        ("https://127.0.0.1:9/", "http://named.without.a.scheme:2"),
    ],
)
def test_the_environment_says_who_stands_between(monkeypatch: pytest.MonkeyPatch, url: str, proxy: str | None) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://plain.example:1")
    monkeypatch.setenv("HTTPS_PROXY", "named.without.a.scheme:2")
    monkeypatch.setenv("NO_PROXY", "near.example:8443,far.example")
    assert environment_proxy(url) == proxy


def test_a_proxy_that_nobody_asked_for_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    http_client("https://keys.example", seconds=1).close()


def test_keys_are_asked_for_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with key_server() as proxy:
        proxy.publish(ed25519("theirs"))
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert b"theirs" in read_url("http://keys.invalid/jwks")
        assert proxy.requests == 1
        with pytest.raises(httpx.ConnectError), http_client("http://keys.invalid", seconds=5, proxied=False) as direct:
            direct.get("http://keys.invalid")


def test_no_redirect_is_followed() -> None:
    with key_server() as server, http_client(server.url, seconds=5) as client:
        server.serve = document(b"", 302, Location="/elsewhere")
        assert client.get(server.url).status_code == 302
        assert server.requests == 1


def test_the_certificates_are_those_of_the_system_and_are_looked_at() -> None:
    certificates = client_options("https://keys.example", proxied=True)["verify"]
    assert certificates.verify_mode is ssl.CERT_REQUIRED
    assert certificates.check_hostname
    assert certificates.cert_store_stats() == ssl.create_default_context().cert_store_stats()


@pytest.mark.parametrize("module", ["services.cli.commands", "services.metering.main"])
def test_who_asks_nobody_does_not_load_the_client(module: str) -> None:
    loaded = f"import sys, {module}; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], check=False).returncode == 0
