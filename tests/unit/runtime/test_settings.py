"""Settings whose mistakes would otherwise show only when it is too late."""

from __future__ import annotations

import pytest

from services.books.settings import LedgerDatabase
from services.key_registry.settings import RegistrySettings
from services.ledger.settings import LedgerSettings
from services.metering.settings import MeteringSettings
from services.runtime.kafka_access import KafkaSettings
from services.runtime.settings import HttpSettings, SettingsError


@pytest.mark.parametrize("good", ["10.0.0.0/8", "127.0.0.1", "10.1.2.3, 2001:db8::/32"])
def test_trusted_proxies_are_addresses_or_networks(monkeypatch: pytest.MonkeyPatch, good: str) -> None:
    monkeypatch.setenv("BYOK_TRUSTED_PROXIES", good)
    assert HttpSettings.load().trusted_proxies == good


@pytest.mark.parametrize("wrong", ["*", "", "proxy.internal", "10.0.0.1/8", "10.0.0.0/8 172.16.0.0/12"])
def test_a_proxy_that_would_be_trusted_by_mistake_or_never_is_refused(
    monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv("BYOK_TRUSTED_PROXIES", wrong)
    with pytest.raises(SettingsError, match="BYOK_TRUSTED_PROXIES"):
        HttpSettings.load()


def test_what_a_process_cannot_do_without_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BYOK_LEDGER_DSN", raising=False)
    monkeypatch.setenv("BYOK_LEDGER_DNS", "misspelt")
    with pytest.raises(SettingsError, match=r"^BYOK_LEDGER_DSN is not set; README\.md, 'Settings', says what it is$"):
        LedgerDatabase.load()
    monkeypatch.setenv("BYOK_LEDGER_DSN", "postgresql://them:secret@there/ledger")
    found = LedgerDatabase.load()
    assert found.ledger_dsn.get_secret_value() == "postgresql://them:secret@there/ledger"
    assert "secret" not in repr(found)


def test_a_value_that_cannot_be_is_told_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOK_KAFKA_TIMEOUT_SECONDS", "secret")
    with pytest.raises(SettingsError, match=r"^BYOK_KAFKA_TIMEOUT_SECONDS: ") as raised:
        KafkaSettings.load()
    assert "secret" not in str(raised.value)


def test_every_service_has_its_own_and_what_all_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYOK_LEDGER_DSN", "l")
    monkeypatch.setenv("BYOK_REGISTRY_DSN", "r")
    monkeypatch.setenv("BYOK_HOST", "0.0.0.0")  # noqa: S104 - nothing listens
    for its in (RegistrySettings, LedgerSettings, MeteringSettings):
        assert its.load().host == "0.0.0.0"  # noqa: S104 - nothing listens
    # What only another needs stops nobody.
    monkeypatch.setenv("BYOK_METERING_BATCH_EVENTS", "many")
    RegistrySettings.load()
    LedgerSettings.load()
    with pytest.raises(SettingsError, match="BYOK_METERING_BATCH_EVENTS"):
        MeteringSettings.load()
