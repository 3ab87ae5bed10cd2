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
_chance = random.SystemRandom()  # whatever seeds the other one
_guards: list[socket.socket] = []
"""One for each block that this process chose: the port behind the block, held until the process ends."""


class Ports(NamedTuple):
    """Seven consecutive ports."""

    kafka: int
    postgres: int
    registry: int
    ledger: int
    metering: int
    broker: int
    """Where the broker itself listens; its clients come by way of ``kafka``, where the journal does."""
    console: int

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
        """Ports that are free now, and that nobody else who asks here is given while this process lives.

        Between the choice and the listening lie seconds, in which others choose, too.
        """
        size = len(cls._fields)
        for _ in range(_FREE_BLOCK_TRIES):
            base = _chance.randrange(_FREE_BLOCK_FROM, _FREE_BLOCK_TO, size + 1)
            guard = _bound(base + size)
            if guard is None:
                continue
            if all(map(_is_free, range(base, base + size))):
                _guards.append(guard)
                return cls(*range(base, base + size))
            guard.close()
        raise StackError(f"no {size} consecutive free ports were found; choose a --port-base")

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
    # A connection that lingers in TIME_WAIT is no listener.
    probe = _bound(port, reuse=True)
    if probe is not None:
        probe.close()
    return probe is not None


def _bound(port: int, *, reuse: bool = False) -> socket.socket | None:
    """A socket on the port, which keeps others from it while it is open; None where somebody else has it."""
    held = socket.socket()
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        held.bind((LOOPBACK, port))
    except OSError:
        held.close()
        return None
    return held
