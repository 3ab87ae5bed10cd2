"""How Kafka is reached: what makes no sense is told before anything starts, and no secret is told at all."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from services.runtime.kafka_access import KafkaAccess, KafkaSettings, SaslMechanism, SecurityProtocol
from services.runtime.kafka_clients import aiokafka_options, kafka_python_options
from services.runtime.settings import SettingsError
from tests.kafka.certificates import Authority
from tests.kafka.secured import token

Set = Callable[..., None]


@pytest.fixture
def secured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Set:
    """Sets BYOK_KAFKA_ variables; a text with a suffix is a file in which that text stands."""

    def set_them(**told: str) -> None:
        for name, value in told.items():
            if name.endswith("_file") and "/" not in value:
                file = tmp_path / name
                file.touch(0o600)
                file.write_text(value)
                value = str(file)
            monkeypatch.setenv(f"BYOK_KAFKA_{name.upper()}", value)

    return set_them


SCRAM = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512"}
PASSWORD = {"sasl_username": "registry", "sasl_password_file": " pa=ss,word \n"}


def test_without_a_word_of_it_nothing_is_secured() -> None:
    access = KafkaSettings.load().kafka
    assert access == KafkaAccess("127.0.0.1:9092")
    assert access.options() == {"bootstrap_servers": ["127.0.0.1:9092"], "security_protocol": "PLAINTEXT"}


def test_a_password_comes_from_its_file_whenever_it_is_wanted(secured: Set) -> None:
    secured(bootstrap="one:9,two:9", **SCRAM, **PASSWORD)
    settings = KafkaSettings.load()
    told = kafka_python_options(settings.kafka)
    assert told.pop("ssl_context").check_hostname
    assert told == {
        "bootstrap_servers": ["one:9", "two:9"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "registry",
        "sasl_plain_password": "pa=ss,word",
    }
    secured(sasl_password_file="another")
    assert aiokafka_options(settings.kafka)["sasl_plain_password"] == "another"
    for shown in (repr(settings), repr(settings.kafka)):
        assert "pa=ss" not in shown
        assert "another" not in shown


async def _awaited(token: object) -> str:
    return await token  # type: ignore[misc]


def test_a_token_is_read_anew_for_every_connection(secured: Set) -> None:
    secured(security_protocol="SASL_PLAINTEXT", sasl_mechanism="OAUTHBEARER", sasl_token_file="one.two.\n")
    access = KafkaSettings.load().kafka
    provider = kafka_python_options(access)["sasl_oauth_token_provider"]
    awaited = aiokafka_options(access)["sasl_oauth_token_provider"]
    assert provider.token() == asyncio.run(_awaited(awaited.token())) == "one.two."
    secured(sasl_token_file="three.four.")
    assert provider.token() == asyncio.run(_awaited(awaited.token())) == "three.four."
    secured(sasl_token_file="")
    with pytest.raises(OSError, match=r"BYOK_KAFKA_SASL_TOKEN_FILE: .* is empty"):
        provider.token()


def test_a_token_that_is_over_is_not_sent_and_stops_nobody_who_starts(secured: Set) -> None:
    over = token("registry", -1)
    secured(security_protocol="SASL_PLAINTEXT", sasl_mechanism="OAUTHBEARER", sasl_token_file=over)
    access = KafkaSettings.load().kafka
    with pytest.raises(SettingsError, match=r"^BYOK_KAFKA_SASL_TOKEN_FILE: the token in .* is over") as raised:
        access.token()
    assert over not in str(raised.value)
    fresh = token("registry")
    secured(sasl_token_file=fresh)
    assert access.token() == fresh


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"security_protocol": "TLS"}, "SECURITY_PROTOCOL"),
        ({"security_protocol": "SASL_SSL"}, "SASL_MECHANISM is not set"),
        ({"sasl_mechanism": "PLAIN"}, "SASL_MECHANISM is set"),
        ({"sasl_username": "registry"}, "SASL_USERNAME is set"),
        ({"sasl_password_file": "secret"}, "SASL_PASSWORD_FILE is set"),
        ({"ssl_ca_file": "secret"}, "SSL_CA_FILE is set"),
        ({"security_protocol": "SSL", "sasl_mechanism": "PLAIN"}, "SASL_MECHANISM is set"),
        ({"security_protocol": "SSL", "ssl_cert_file": "secret"}, "SSL_KEY_FILE is not set"),
        ({"security_protocol": "SSL", "ssl_key_file": "secret"}, "SSL_CERT_FILE is not set"),
        ({"security_protocol": "SSL", "ssl_ca_file": "secret"}, "SSL_CA_FILE: .* cannot be used"),
        ({"security_protocol": "SSL", "ssl_ca_file": "/nowhere/ca.pem"}, "SSL_CA_FILE: /nowhere/ca.pem cannot be used"),
        ({"security_protocol": "SSL", "ssl_cert_file": "secret", "ssl_key_file": "secret"}, "SSL_CERT_FILE: "),
        ({**SCRAM, "sasl_mechanism": "GSSAPI"}, "SASL_MECHANISM"),
        ({**SCRAM, "sasl_username": "registry"}, "SASL_PASSWORD_FILE is not set"),
        ({**SCRAM, "sasl_password_file": "secret"}, "SASL_USERNAME is not set"),
        ({**SCRAM, **PASSWORD, "sasl_token_file": "secret"}, "SASL_TOKEN_FILE is set"),
        ({**SCRAM, **PASSWORD, "sasl_password_file": "\n"}, "SASL_PASSWORD_FILE: .* is empty"),
        ({**SCRAM, **PASSWORD, "sasl_password_file": "/nowhere/it"}, "SASL_PASSWORD_FILE: /nowhere/it cannot be used"),
        ({**SCRAM, "sasl_mechanism": "OAUTHBEARER"}, "SASL_TOKEN_FILE is not set"),
        ({**SCRAM, **PASSWORD, "sasl_mechanism": "OAUTHBEARER"}, "SASL_USERNAME is set"),
        ({**SCRAM, "security_protocol": "SASL_PLAINTEXT", **PASSWORD, "ssl_ca_file": "secret"}, "SSL_CA_FILE is set"),
    ],
)
def test_what_makes_no_sense_is_told_by_the_name_of_its_variable(
    secured: Set, told: dict[str, str], named: str
) -> None:
    secured(**told)
    with pytest.raises(SettingsError, match=f"^BYOK_KAFKA_{named}") as raised:
        KafkaSettings.load()
    assert "secret" not in str(raised.value)


def test_the_broker_is_held_to_one_authority_where_one_is_named(secured: Set, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("registry")
    files = {"ca_file": authority.file, "cert_file": certificate, "key_file": key}
    secured(security_protocol="SSL", **{f"ssl_{name}": str(file) for name, file in files.items()})
    context = KafkaSettings.load().kafka.options()["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert [each["subject"][0][0][1] for each in context.get_ca_certs()] == ["the test's authority"]


def test_a_key_that_is_encrypted_is_refused_and_asks_nobody(secured: Set, tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path / "authority").issue("registry")
    plain = serialization.load_pem_private_key(key.read_bytes(), None)
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key.write_bytes(plain.private_bytes(pem, form, serialization.BestAvailableEncryption(b"secret")))
    secured(security_protocol="SSL", ssl_cert_file=str(certificate), ssl_key_file=str(key))
    with pytest.raises(SettingsError, match=r"^BYOK_KAFKA_SSL_CERT_FILE: "):
        KafkaSettings.load()


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_secret_that_others_may_read_is_warned_of(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    mode: int,
    *,
    warned: bool,
) -> None:
    file = tmp_path / "password"
    file.write_text("pa55word")
    file.chmod(mode)
    KafkaAccess("b:9", SecurityProtocol.SASL_PLAINTEXT, SaslMechanism.PLAIN, "me", file).warn_of_readers()
    # Where it goes depends on whether another test has set up logging.
    told = capsys.readouterr().out + caplog.text
    assert ("run chmod 600" in told) == warned
    assert "pa55word" not in told
