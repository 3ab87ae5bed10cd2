"""Our own programs as children of a stack: their environments, their bounds, and when they are ready."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

import services
from services.local.endpoints import LOOPBACK
from services.local.processes import Program
from services.runtime.http_client import http_client

_ANSWER_BYTES_MAX = 4_000
_STOP_SECONDS = {"journal": 5.0, "registry": 5.0, "ledger": 5.0, "metering": 8.0, "console": 5.0}
# Each service gets the secrets it needs and no others; none of them signs tokens.
_OF_PEOPLE = {"BYOK_JWT_SIGNING_KEY_FILE", "BYOK_CONSOLE_SESSION_KEY_FILE", "BYOK_CONSOLE_PERSONAS_FILE"}
_OF_KEYS = {"BYOK_REGISTRY_DSN", "BYOK_KEK_FILE", "BYOK_KEKS"}
_WITHHELD = {
    "journal": _OF_PEOPLE | _OF_KEYS,
    "registry": _OF_PEOPLE,
    "ledger": _OF_PEOPLE | _OF_KEYS,
    "metering": _OF_PEOPLE | _OF_KEYS,
    "console": {"BYOK_JWT_SIGNING_KEY_FILE", "BYOK_LEDGER_DSN"} | _OF_KEYS,
}
# A variable of the caller that would win over the one we set.
_CONFLICTING = {"BYOK_JWT_JWKS_URL", "BYOK_KEKS", "BYOK_LEDGER_ADMIN_DSN", "BYOK_REGISTRY_ADMIN_DSN"}
# How the caller reaches a Kafka of its own.
_CONFLICTING_BEGINNINGS = ("BYOK_KAFKA_SECURITY_", "BYOK_KAFKA_SASL_", "BYOK_KAFKA_SSL_")


def foreign_environment() -> dict[str, str]:
    """The environment for programs that are not ours: without our settings, some of which are secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BYOK_")}


def upgrade_program(command: tuple[str, ...], settings: dict[str, str], directory: Path) -> Program:
    """`byok db upgrade`; ``settings`` has the DSNs of the owners."""
    return Program("db-upgrade", command, our_environment() | settings, directory, ends=True)


def service_program(name: str, command: tuple[str, ...], settings: dict[str, str], directory: Path) -> Program:
    """One of the services, with those of ``settings`` that it may know."""
    environment = {k: v for k, v in (our_environment() | settings).items() if k not in _WITHHELD[name]}
    return Program(name, command, environment, directory, stop=((signal.SIGTERM, _STOP_SECONDS[name]),))


def listens(port: int) -> bool:
    """Whether something accepts connections on the loopback port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


class Readiness:
    """Whether a service has started: it is ready, or only an operator's word is missing; remembers what it said last.

    A stack whose metering is paused has to start all the same, or nobody could look at it and resume.
    """

    def __init__(self, port: int) -> None:
        self._url = f"http://{LOOPBACK}:{port}/readyz"
        self.last_answer = "no answer"
        self.pause: str | None = None
        """What a paused worker says."""

    def __call__(self) -> bool:
        import httpx

        try:
            with (
                http_client(self._url, seconds=2, proxied=False) as client,
                client.stream("GET", self._url) as response,
            ):
                body = next(response.iter_raw(_ANSWER_BYTES_MAX), b"")
        except httpx.HTTPError as error:
            self.last_answer = f"no answer: {error}"
            return False
        self.last_answer = f"{response.status_code} {body.decode(errors='replace')}"
        self.pause = _only_paused(body)
        return response.is_success or self.pause is not None


def _only_paused(body: bytes) -> str | None:
    with suppress(ValueError, AttributeError):
        missing = json.loads(body).get("missing", {})
        if set(missing) == {"pause"}:
            return str(missing["pause"])
    return None


def our_environment() -> dict[str, str]:
    """The environment for programs of ours, without what would win over the settings that they are given."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in _CONFLICTING and not name.startswith(_CONFLICTING_BEGINNINGS)
    }
    # So that a crash leaves its last words in the log.
    environment["PYTHONUNBUFFERED"] = "1"
    # The children run elsewhere, because a folder `services` where the operator stands would be taken for ours. So
    # a checkout that is not installed must be named.
    home = Path(services.__file__).resolve().parent.parent
    if home.name not in {"site-packages", "dist-packages"}:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(home), environment.get("PYTHONPATH"))))
    return environment
