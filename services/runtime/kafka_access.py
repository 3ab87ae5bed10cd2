"""How Kafka is reached: where the brokers are, and how the connection to them is secured.

The password and the token stand in files, which are read when a client is made or a token is wanted; no value here
holds either.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

import jwt
from pydantic import Field, model_validator

from services.runtime.private_file import read_secret, warn_of_readers
from services.runtime.settings import Settings, SettingsError, not_set, unusable


class SecurityProtocol(StrEnum):
    """Whether the connection is encrypted, and whether we say who we are by SASL."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def has_sasl(self) -> bool:
        """Whether we say who we are by SASL."""
        return self.startswith("SASL")

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted, and the broker's certificate checked."""
        return self.endswith("SSL")


class SaslMechanism(StrEnum):
    """How we say who we are."""

    SCRAM_SHA_512 = "SCRAM-SHA-512"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    PLAIN = "PLAIN"
    OAUTHBEARER = "OAUTHBEARER"


@dataclass(frozen=True)
class KafkaAccess:
    """The brokers, and how they are reached."""

    bootstrap: str
    """``host:port`` of one or more brokers, separated by commas."""
    protocol: SecurityProtocol = SecurityProtocol.PLAINTEXT
    mechanism: SaslMechanism | None = None
    username: str | None = None
    password_file: Path | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    """None: the system's certificate authorities."""
    cert_file: Path | None = None
    key_file: Path | None = None

    @property
    def servers(self) -> list[str]:
        """``host:port`` of each of the brokers."""
        return self.bootstrap.split(",")

    def options(self) -> dict[str, Any]:
        """What clients are told about how they connect, by the names that both libraries have for it.

        Raises SettingsError where a file cannot be used.
        """
        told: dict[str, Any] = {"bootstrap_servers": self.servers, "security_protocol": self.protocol.value}
        if self.protocol.has_tls:
            told["ssl_context"] = self._tls()
        if self.mechanism is not None:
            told["sasl_mechanism"] = self.mechanism.value
        if self.password_file is not None:
            told["sasl_plain_username"] = self.username
            told["sasl_plain_password"] = read_secret("BYOK_KAFKA_SASL_PASSWORD_FILE", self.password_file)
        return told

    def token(self) -> str:
        """What the token file holds now. Raises SettingsError, also where the token is over.

        Such a one is not sent: aiokafka would believe that it was accepted, and Faust would crash.
        """
        if self.token_file is None:
            raise not_set("kafka_sasl_token_file")
        token = read_secret("BYOK_KAFKA_SASL_TOKEN_FILE", self.token_file)
        ends = _end_of(token)
        if ends is not None and ends < time.time():
            raise SettingsError(f"BYOK_KAFKA_SASL_TOKEN_FILE: the token in {self.token_file} is over; who renews it?")
        return token

    def warn_of_readers(self) -> None:
        """Log which of the files that hold a secret others may read."""
        for file in (self.password_file, self.token_file, self.key_file):
            if file is not None:
                warn_of_readers(file, "a secret by which Kafka knows us")

    def _tls(self) -> ssl.SSLContext:
        """The broker's certificate is checked, and that it is for the host that we asked for."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise unusable("BYOK_KAFKA_SSL_CA_FILE", self.ca_file, error) from None
        if self.cert_file is not None and self.key_file is not None:
            try:
                # Without a password, OpenSSL would ask for that of an encrypted key on the terminal.
                context.load_cert_chain(self.cert_file, self.key_file, password="")
            except (OSError, ValueError) as error:
                files = f"{self.cert_file} with {self.key_file}"
                raise unusable("BYOK_KAFKA_SSL_CERT_FILE", files, error) from None
        return context


def _end_of(token: str) -> float | None:
    """In seconds since 1970; None where the token does not say it, or is none of JWT's."""
    try:
        ends = jwt.decode(token, options={"verify_signature": False}).get("exp")
    except jwt.PyJWTError:
        return None
    return ends if isinstance(ends, (int, float)) else None


class KafkaSettings(Settings):
    """Where the broker is, and how it is reached."""

    kafka_bootstrap: str = "127.0.0.1:9092"
    """``host:port`` of one or more brokers, separated by commas."""
    kafka_timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 30
    """How long one send may take before it counts as failed and is tried again."""
    kafka_security_protocol: SecurityProtocol = SecurityProtocol.PLAINTEXT
    kafka_sasl_mechanism: SaslMechanism | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password_file: Path | None = None
    """Read when a client is made; white space around the password is none of it."""
    kafka_sasl_token_file: Path | None = None
    """For OAUTHBEARER; read anew whenever a connection is made."""
    kafka_ssl_ca_file: Path | None = None
    """PEM; none: the system's certificate authorities."""
    kafka_ssl_cert_file: Path | None = None
    """PEM: the certificate by which the broker knows us, and those between it and its authority."""
    kafka_ssl_key_file: Path | None = None
    """PEM, not encrypted."""

    @property
    def kafka(self) -> KafkaAccess:
        """How the brokers are reached."""
        return KafkaAccess(
            self.kafka_bootstrap,
            self.kafka_security_protocol,
            self.kafka_sasl_mechanism,
            self.kafka_sasl_username,
            self.kafka_sasl_password_file,
            self.kafka_sasl_token_file,
            self.kafka_ssl_ca_file,
            self.kafka_ssl_cert_file,
            self.kafka_ssl_key_file,
        )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        protocol, mechanism = self.kafka_security_protocol, self.kafka_sasl_mechanism
        told = f"BYOK_KAFKA_SECURITY_PROTOCOL={protocol}"
        self._require("kafka_sasl_mechanism", protocol.has_sasl, told)
        by_token = mechanism is SaslMechanism.OAUTHBEARER
        if mechanism is not None:
            told = f"BYOK_KAFKA_SASL_MECHANISM={mechanism}"
        self._require("kafka_sasl_username", protocol.has_sasl and not by_token, told)
        self._require("kafka_sasl_password_file", protocol.has_sasl and not by_token, told)
        self._require("kafka_sasl_token_file", by_token, told)
        if not protocol.has_tls:
            for name in ("kafka_ssl_ca_file", "kafka_ssl_cert_file", "kafka_ssl_key_file"):
                self._require(name, needed=False, by=f"BYOK_KAFKA_SECURITY_PROTOCOL={protocol}")
        elif (self.kafka_ssl_cert_file is None) != (self.kafka_ssl_key_file is None):
            raise not_set("kafka_ssl_key_file" if self.kafka_ssl_key_file is None else "kafka_ssl_cert_file")
        self.kafka.options()
        if self.kafka_sasl_token_file is not None:
            # Whether it is over is not asked here: that is a matter of waiting.
            read_secret("BYOK_KAFKA_SASL_TOKEN_FILE", self.kafka_sasl_token_file)
        return self

    def _require(self, name: str, needed: bool, by: str) -> None:  # noqa: FBT001  # one line each reads best
        is_set = getattr(self, name) is not None
        if needed and not is_set:
            raise SettingsError(f"BYOK_{name.upper()} is not set; {by} needs it")
        if is_set and not needed:
            raise SettingsError(f"BYOK_{name.upper()} is set, and {by} has no use for it; one of the two is wrong")
