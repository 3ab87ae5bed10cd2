"""The rig on a Kafka with users and ACLs: exactly those that docs/how-to/deploy.md tells operators to make."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kafka.admin import ResourceType

from tests.faults.rig import Rig, Service
from tests.kafka.secured import SecuredKafka

USERS = ("registry", "metering", "ledger", "runner", "operator")
STRANGER = "stranger"
"""One with a password, who may do nothing."""
_PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "deploy.md"
_KINDS = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP}

Grant = tuple[str, ResourceType, str, str]


def documented_grants() -> list[Grant]:
    """User, kind, name and operation, of every ACL on the page."""
    grants = []
    for line in re.findall(r"^allow (--.+)$", _PAGE.read_text(encoding="utf-8"), re.MULTILINE):
        options = re.findall(r"--(\S+) (\S+)", line)
        (user,) = (value.removeprefix("User:") for name, value in options if name == "allow-principal")
        operations = [_screaming(value) for name, value in options if name == "operation"]
        places = [(_KINDS[name], value) for name, value in options if name in _KINDS]
        grants += [(user, kind, name, operation) for kind, name in places for operation in operations]
    return grants


def _screaming(operation: str) -> str:
    return re.sub(r"\B([A-Z])", r"_\1", operation).upper()


class SecuredRig(Rig):
    """Registry, workers and ledger come as users of their own, by SASL_SSL with SCRAM-SHA-512."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.secured = self.kafka = SecuredKafka(folder / "kafka", (*USERS, STRANGER))

    def start(self) -> None:
        """As documented: topics and ACLs first."""
        super().start()
        for user, *grant in documented_grants():
            self.secured.allow(user, tuple(grant))
        port = self.wiring.ports.ledger
        self.ledger = Service("ledger", "ledger", self.environment(**self.secured.settings("ledger")), port, self.logs)

    def restore(self) -> None:
        """Nothing stands before Kafka here."""
        self.database.forward(self.postgres.port)

    def environment(self, **changes: str) -> dict[str, str]:
        """A worker's, unless ``changes`` say otherwise."""
        return super().environment(**(changes or self.secured.settings("metering")))

    def registry_environment(self) -> dict[str, str]:
        """The settings of the registry."""
        return self.environment(**self.secured.settings("registry"))

    def service(self, name: str, kind: str, port: int, **settings: str) -> Service:
        """One more process of a kind, with settings of its own for Kafka."""
        ports = {f"BYOK_{kind.upper()}_PORT": str(port)}
        return Service(name, kind, self.environment(**settings, **ports), port, self.logs)

    def close(self) -> None:
        """End everything."""
        if hasattr(self, "ledger"):
            self.ledger.kill()
        super().close()


@contextmanager
def running_secured_rig(folder: Path) -> Iterator[SecuredRig]:
    """A rig with PostgreSQL and Kafka running."""
    rig = SecuredRig(folder)
    try:
        rig.start()
        yield rig
    finally:
        rig.close()
