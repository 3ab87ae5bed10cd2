"""The image, built as a machine with a registry of images builds it, and started."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.test_deploy import ROOT
from tests.enabling import skip_unless

_PULL_SECONDS = 300
_BUILD_SECONDS = 900
_NAME = "localhost/byok-credit-metering:test"

Buildah = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def buildah(tmp_path: Path) -> Iterator[Buildah]:
    """buildah with a storage of its own, which needs no daemon and leaves nothing behind."""
    program = shutil.which("buildah")
    skip_unless(program, "buildah is not installed", "apt install buildah", needs="buildah")
    storage = ["--storage-driver", "vfs", "--root", str(tmp_path / "root"), "--runroot", str(tmp_path / "run")]

    def run(*arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        command = [str(program), *storage, *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)

    yield run
    run("rm", "--all")
    run("rmi", "--all", "--force")


@pytest.mark.slow
def test_the_image_is_built_and_runs_the_command_line_as_nobody_in_particular(buildah: Buildah) -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    (base,) = set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE))
    pulled = buildah("pull", f"docker.io/library/{base}", seconds=_PULL_SECONDS)
    said = pulled.stderr.strip().splitlines()[-1:]
    skip_unless(
        pulled.returncode == 0, f"{base} cannot be pulled here: {said}", "a machine that reaches a registry of images"
    )
    build = ["build", "--isolation", "chroot", "--file", "deploy/Dockerfile", "--tag", _NAME, "."]
    built = buildah(*build, seconds=_BUILD_SECONDS)
    assert built.returncode == 0, built.stderr[-3000:]
    container = buildah("from", _NAME).stdout.strip()
    # `buildah run` does not know the entry point.
    asked = buildah("run", "--isolation", "chroot", container, "--", "python", "-m", "services", "--help")
    assert "registry" in asked.stdout, asked.stderr
    whoami = buildah("run", "--isolation", "chroot", container, "--", "id", "--user")
    assert whoami.stdout.strip() == "10001"
