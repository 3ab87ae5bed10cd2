"""A Python environment with the packages that the SDK's hooks are for, made once: they are large, and nothing else here
needs them.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.enabling import skip_unless
from tests.own_packages import NotInstallableError, python_with
from tests.patience import PATIENCE_SECONDS
from tests.sdk.foreign_ledger import ForeignLedger
from tests.sdk.model_server import ProviderServer

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "hooked"
NEEDED = PROGRAMS / "requirements.txt"


def python_with_packages() -> Path:
    """Its interpreter. Made in ``build``, anew for another list of packages; skips where they cannot be had."""
    try:
        return python_with("sdk-hooks", NEEDED)
    except NotInstallableError as error:
        reason = f"the packages of the SDK's hooks cannot be installed: {error}"
        skip_unless(condition=False, reason=reason, command="a package index", needs="sdk-hooks")
        raise


def environment(**more: str) -> dict[str, str]:
    """For a program there: the SDK as it stands, and nothing that these packages would fetch or send by themselves."""
    quiet = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LANGSMITH_TRACING": "false",
        "PATIENCE_SECONDS": str(PATIENCE_SECONDS),
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "sdk" / "src", PROGRAMS))),
    }
    return dict(os.environ) | quiet | more


def run_there(program: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run one of the programs of ``hooked``; what it says on both of its outputs."""
    return subprocess.run(
        [python_with_packages(), PROGRAMS / program, *arguments],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_SECONDS,
        check=False,
    )


def run_metered(
    program: str, *arguments: str, provider: ProviderServer, ledger: ForeignLedger, spool: Path
) -> subprocess.CompletedProcess[str]:
    """Run one whose calls go to ``provider``, and what they used to ``ledger``; it must succeed."""
    done = run_there(
        program,
        *arguments,
        PROVIDER_URL=provider.url,
        BYOK_LEDGER_URL=ledger.url,
        BYOK_REGISTRY_URL=ledger.url,
        BYOK_TOKEN="made-up",
        BYOK_SPOOL_DIR=str(spool),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def run_text(program: str, **more: str) -> None:
    """Run a program's text, which must succeed."""
    command: list[str | Path] = [python_with_packages(), "-c", program]
    done = subprocess.run(
        command, env=environment(**more), capture_output=True, text=True, timeout=3 * PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


if __name__ == "__main__":
    python_with_packages()
