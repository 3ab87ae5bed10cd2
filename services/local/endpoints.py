"""Where a stack listens: its ports, and the line of JSON by which others find it (docs/contract.md, section 10)."""

from __future__ import annotations

import random
import socket
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict

from services.local.processes import StackError

LOOPBACK = "127.0.0.1"
_PORT_MAX = 65_535
# Below the range from which Linux takes the ports of outgoing connections.
_FREE_BLOCK_FROM, _FREE_BLOCK_TO = 20_000, 32_000
_FREE_BLOCK_TRIES = 200


class Ports(NamedTuple):
    """Six consecutive ports."""

    kafka: int
    postgres: int
    registry: int
    ledger: int
    metering: int
    broker: int
    """Where the broker itself listens; its clients come by way of ``kafka``, where the journal does."""

    @classmethod
    def from_base(cls, base: int) -> Self:
        """The ports from ``base`` on. Raises StackError when one is taken or no port at all."""
        if not 1 <= base <= _PORT_MAX - len(cls._fields) + 1:
            raise StackError(f"--port-base {base}: there are no {len(cls._fields)} ports from there on")
        ports = cls(*range(base, base + len(cls._fields)))
        for name, port in ports._asdict().items():
            if not _is_free(port):
                raise StackError(f"port {port} ({name}) is taken by another program; choose another --port-base")
        return ports

    @classmethod
    def free_block(cls) -> Self:
        """Ports that are free now, chosen at random so that stacks that start together hardly meet."""
        for _ in range(_FREE_BLOCK_TRIES):
            base = random.randrange(_FREE_BLOCK_FROM, _FREE_BLOCK_TO, len(cls._fields))  # noqa: S311  # no secret
            if all(_is_free(port) for port in range(base, base + len(cls._fields))):
                return cls(*range(base, base + len(cls._fields)))
        raise StackError(f"no {len(cls._fields)} consecutive free ports were found; choose a --port-base")

    def address(self, name: str) -> str:
        """``host:port`` of the program ``name``."""
        return f"{LOOPBACK}:{self._asdict()[name]}"


class Tokens(BaseModel):
    """Bearer tokens for the programs that use a stack."""

    model_config = ConfigDict(frozen=True)

    platform: str
    runner: str
    billing: str


class Endpoints(BaseModel):
    """What `byok up --json` prints: where everything is, and what lets one in."""

    model_config = ConfigDict(frozen=True)

    kafka: str
    ledger_dsn: str
    registry_dsn: str
    registry_url: str
    ledger_url: str
    console_url: str
    metrics: list[str]
    tokens: Tokens


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # A connection that lingers in TIME_WAIT is no listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
