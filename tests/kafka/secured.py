"""Apache Kafka that lets nobody in who does not say who they are, and do nothing that no ACL allows.

Its own listener stays as it is, for the test, which may do everything there. What is tested comes by the three others:
SASL over TLS, TLS with certificates of the clients, and SASL without TLS.
"""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
)

from services.local.endpoints import LOOPBACK, Ports
from tests.kafka.apache_kafka import ApacheKafka
from tests.kafka.certificates import Authority

_PROTOCOLS = ("SASL_SSL", "SSL", "SASL_PLAINTEXT")
_MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER")
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
_OAUTH = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required"


class SecuredKafka(ApacheKafka):
    """One node. Each user's password is ``of-`` and the name, by SCRAM and PLAIN; tokens are taken unsigned."""

    def __init__(self, folder: Path, users: Iterable[str]) -> None:
        block = Ports.free_block()
        users = tuple(users)
        super().__init__(folder, port=block[0], advertised=block[2:5], settings=_settings(folder, users))
        self.authority = Authority(folder / "certificates")
        certificate, key = self.authority.issue("broker", LOOPBACK)
        (folder / "certificates" / "keystore.pem").write_bytes(key.read_bytes() + certificate.read_bytes())
        self._scram = [f"{each}=[name={user},password=of-{user}]" for user in users for each in _MECHANISMS[:2]]
        self._passwords = folder / "passwords"
        self._passwords.mkdir(exist_ok=True)

    def listener(self, protocol: str) -> str:
        """``host:port`` of the listener with that protocol."""
        return f"{LOOPBACK}:{self.proxied_ports[_PROTOCOLS.index(protocol)]}"

    def settings(
        self, user: str, mechanism: str = "SCRAM-SHA-512", protocol: str = "SASL_SSL", **changes: str | None
    ) -> dict[str, str]:
        """The settings of a process that comes as ``user``, with ``changes``; None: without that setting."""
        told: dict[str, str | None] = {
            "BYOK_KAFKA_BOOTSTRAP": self.listener(protocol),
            "BYOK_KAFKA_SECURITY_PROTOCOL": protocol,
        }
        if protocol.startswith("SASL"):
            told["BYOK_KAFKA_SASL_MECHANISM"] = mechanism
            if mechanism == "OAUTHBEARER":
                told["BYOK_KAFKA_SASL_TOKEN_FILE"] = str(self.secret(f"{user}.jwt", token(user)))
            else:
                told["BYOK_KAFKA_SASL_USERNAME"] = user
                told["BYOK_KAFKA_SASL_PASSWORD_FILE"] = str(self.secret(user, f"of-{user}"))
        if protocol.endswith("SSL"):
            told["BYOK_KAFKA_SSL_CA_FILE"] = str(self.authority.file)
        if protocol == "SSL":
            certificate, key = self.authority.issue(user)
            told |= {"BYOK_KAFKA_SSL_CERT_FILE": str(certificate), "BYOK_KAFKA_SSL_KEY_FILE": str(key)}
        return {name: value for name, value in (told | changes).items() if value is not None}

    def secret(self, name: str, text: str) -> Path:
        """A file that only we can read."""
        file = self._passwords / name
        file.touch(0o600)
        file.write_text(f"{text}\n")
        return file

    def allow(self, user: str, *grants: tuple[ResourceType, str, str]) -> None:
        """Let the user do ``operation`` (as ``kafka-acls.sh`` calls it) with each resource."""
        self._change("create_acls", [acl(user, *grant) for grant in grants])

    def forbid(self, user: str, *grants: tuple[ResourceType, str, str]) -> None:
        """Take it back; acknowledged is not yet in force, so look until it is."""
        self._change("delete_acls", [acl(user, *grant) for grant in grants])

    def _change(self, how: str, what: list[ACL]) -> None:
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            getattr(admin, how)(what)
        finally:
            admin.close()

    def _more_format_arguments(self) -> list[str]:
        return [argument for each in self._scram for argument in ("--add-scram", each)]

    def _settings(self) -> Mapping[str, str]:
        names = {"DIRECT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
        names |= {f"PROXIED{number}": protocol for number, protocol in enumerate(_PROTOCOLS)}
        protocols = ",".join(f"{name}:{protocol}" for name, protocol in names.items())
        return {**super()._settings(), "listener.security.protocol.map": protocols}


def acl(user: str, kind: ResourceType, name: str, operation: str) -> ACL:
    """One ACL, that allows."""
    return ACL(f"User:{user}", "*", ACLOperation[operation], ACLPermissionType.ALLOW, ResourcePattern(kind, name))


def token(user: str, seconds: float = 3600) -> str:
    """An unsigned JWT, as a broker for development takes it."""
    now = int(time.time())
    parts = ({"alg": "none"}, {"sub": user, "iat": now - 1, "exp": now + seconds})
    return ".".join(urlsafe_b64encode(json.dumps(each).encode()).decode().rstrip("=") for each in parts) + "."


def _settings(folder: Path, users: Iterable[str]) -> dict[str, str]:
    certificates = folder.absolute() / "certificates"
    plain = " ".join(f'user_{user}="of-{user}"' for user in users)
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # Whoever comes by a listener without SASL or certificates: the test, and the node itself.
        "super.users": "User:ANONYMOUS",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates / "keystore.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates / "ca.pem"),
        "listener.name.proxied1.ssl.client.auth": "required",
        "ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/",
    }
    for number in (0, 2):
        name = f"listener.name.proxied{number}"
        settings |= {
            f"{name}.sasl.enabled.mechanisms": ",".join(_MECHANISMS),
            f"{name}.scram-sha-512.sasl.jaas.config": _SCRAM,
            f"{name}.scram-sha-256.sasl.jaas.config": _SCRAM,
            f"{name}.plain.sasl.jaas.config": f"{_PLAIN} {plain};",
            # A connection lasts no longer than its token.
            f"{name}.oauthbearer.connections.max.reauth.ms": "3600000",
            f"{name}.oauthbearer.sasl.jaas.config": f'{_OAUTH} unsecuredLoginStringClaim_sub="broker";',
        }
    return settings
