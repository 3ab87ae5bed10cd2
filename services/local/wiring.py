"""How the parts of a stack find each other and prove who they are: its ports and secrets as settings and endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from services.local.dev_tokens import ALL_SCOPES, SigningKey, sign_token, token_claims
from services.local.embedded.databases import COMPARER, DASHBOARD, DATABASES, REPLAYER
from services.local.embedded.postgres import MAINTENANCE_DATABASE
from services.local.endpoints import LOOPBACK, Endpoints, Ports, Tokens

SERVICES = ("registry", "ledger", "metering", "console")
"""In the order of their start; stopped in the reverse order."""
_TOKEN_LIFETIME = timedelta(days=30)


@dataclass(frozen=True)
class Wiring:
    """One start's ports, and the secrets of its data directory."""

    ports: Ports
    passwords: Mapping[str, str]
    kek_file: Path
    signing_key: SigningKey
    session_key_file: Path
    personas_file: Path

    def environment(self) -> dict[str, str]:
        """The BYOK_ settings by which a program of ours finds this stack."""
        return {
            "BYOK_ENV": "development",
            "BYOK_KAFKA_BOOTSTRAP": self.ports.address("kafka"),
            "BYOK_LEDGER_DSN": self._dsn("ledger", "service"),
            "BYOK_REGISTRY_DSN": self._dsn("registry", "service"),
            "BYOK_HOST": LOOPBACK,
            "BYOK_REGISTRY_PORT": str(self.ports.registry),
            "BYOK_LEDGER_PORT": str(self.ports.ledger),
            "BYOK_METERING_PORT": str(self.ports.metering),
            "BYOK_CONSOLE_PORT": str(self.ports.console),
            "BYOK_CONSOLE_SESSION_KEY_FILE": str(self.session_key_file),
            "BYOK_CONSOLE_PERSONAS_FILE": str(self.personas_file),
            "BYOK_REGISTRY_URL": self._url("registry"),
            "BYOK_LEDGER_URL": self._url("ledger"),
            "BYOK_KEK_FILE": str(self.kek_file),
            "BYOK_JWT_ISSUER": "byok",
            "BYOK_JWT_AUDIENCE": "byok",
            "BYOK_JWT_JWKS_FILE": str(self.signing_key.jwks_file),
            "BYOK_JWT_SIGNING_KEY_FILE": str(self.signing_key.key_file),
        }

    def service_environment(self, service: str) -> dict[str, str]:
        """The same for one of SERVICES: the registry comes to the ledger to compare its log, and for nothing else."""
        login = {"BYOK_LEDGER_DSN": self._login(COMPARER, "ledger")} if service == "registry" else {}
        return self.environment() | login

    def owner_environment(self) -> dict[str, str]:
        """The same with the DSNs of the databases' owners, for `byok db upgrade` alone."""
        return self.environment() | {f"BYOK_{name.upper()}_ADMIN_DSN": self._dsn(name, "owner") for name in DATABASES}

    def operator_environment(self) -> dict[str, str]:
        """The same for whoever works with this stack from outside: with a role that may make a shadow ledger, and one
        that may read the ledger's views, for dashboards and people; no program of ours uses that one."""
        return self.environment() | {
            "BYOK_REPLAY_DSN": self._login(REPLAYER, MAINTENANCE_DATABASE),
            "BYOK_LEDGER_READER_DSN": self._login(DASHBOARD, "ledger"),
        }

    def endpoints(self, now: datetime) -> Endpoints:
        """What other programs are told, with tokens that are good for 30 days from ``now``."""
        return Endpoints(
            kafka=self.ports.address("kafka"),
            ledger_dsn=self._dsn("ledger", "service"),
            registry_dsn=self._dsn("registry", "service"),
            registry_url=self._url("registry"),
            ledger_url=self._url("ledger"),
            console_url=f"{self._url('console')}/",
            metrics=[f"{self._url(name)}/metrics" for name in SERVICES],
            tokens=Tokens(
                platform=self._token("platform", ALL_SCOPES, now, org_role="admin"),
                runner=self._token("runner", "usage:write credentials:lease", now),
                billing=self._token("billing", "ledger:read", now),
            ),
        )

    def _dsn(self, database: str, role: str) -> str:
        return self._login(f"{database}_{role}", database)

    def _login(self, user: str, database: str) -> str:
        return f"postgresql://{user}:{self.passwords[user]}@{self.ports.address('postgres')}/{database}"

    def _url(self, service: str) -> str:
        return f"http://{self.ports.address(service)}"

    def _token(self, subject: str, scope: str, now: datetime, **more: str) -> str:
        claims = token_claims(subject, scope, issued_at=now, lifetime=_TOKEN_LIFETIME)
        return sign_token(self.signing_key.key_file, claims | more)
