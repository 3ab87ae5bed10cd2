"""Settings whose mistakes would otherwise show only when it is too late."""

from __future__ import annotations

import pytest

from services.runtime.settings import SettingsError, load_settings


@pytest.mark.parametrize("good", ["10.0.0.0/8", "127.0.0.1", "10.1.2.3, 2001:db8::/32"])
def test_trusted_proxies_are_addresses_or_networks(monkeypatch: pytest.MonkeyPatch, good: str) -> None:
    monkeypatch.setenv("BYOK_TRUSTED_PROXIES", good)
    assert load_settings().trusted_proxies == good


@pytest.mark.parametrize("wrong", ["*", "", "proxy.internal", "10.0.0.1/8", "10.0.0.0/8 172.16.0.0/12"])
def test_a_proxy_that_would_be_trusted_by_mistake_or_never_is_refused(
    monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv("BYOK_TRUSTED_PROXIES", wrong)
    with pytest.raises(SettingsError, match="BYOK_TRUSTED_PROXIES"):
        load_settings()
