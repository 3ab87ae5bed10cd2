"""The image, built as a machine with a registry of images builds it, and started.

Where no registry is reached, Debian with its own Python stands in for the base: the steps are the Dockerfile's all the
same, the interpreter is another."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.test_deploy import ROOT
from tests.enabling import skip_unless
from tests.patience import PATIENCE_SECONDS

_BUILD_SECONDS = 3 * PATIENCE_SECONDS
_NAME = "localhost/byok-credit-metering:test"

Buildah = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def buildah(tmp_path: Path) -> Iterator[Buildah]:
    """buildah with a storage of its own, which needs no daemon and leaves nothing behind."""
    program = shutil.which("buildah")
    skip_unless(program, "buildah is not installed", "apt install buildah", needs="buildah")
    storage = ["--storage-driver", "vfs", "--root", str(tmp_path / "root"), "--runroot", str(tmp_path / "run")]

    def run(*arguments: str, seconds: float = PATIENCE_SECONDS) -> subprocess.CompletedProcess[str]:
        command = [str(program), *storage, *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)

    yield run
    run("rm", "--all")
    run("rmi", "--all", "--force")
    # Some gigabytes, which pytest would keep for three runs.
    for folder in ("root", "run", "debian"):
        shutil.rmtree(tmp_path / folder, ignore_errors=True)


@pytest.mark.slow
def test_the_image_is_built_and_runs_the_command_line_as_nobody_in_particular(buildah: Buildah, tmp_path: Path) -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    (base,) = set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE))
    name = f"docker.io/library/{base}"
    if buildah("pull", name).returncode != 0:
        _make_stand_in(buildah, name, tmp_path / "debian")
    build = ["build", "--pull-never", "--isolation", "chroot", "--file", "deploy/Dockerfile", "--tag", _NAME, "."]
    built = buildah(*build, seconds=_BUILD_SECONDS)
    assert built.returncode == 0, built.stderr[-3000:]
    container = buildah("from", _NAME).stdout.strip()
    # `buildah run` does not know the entry point.
    asked = buildah("run", "--isolation", "chroot", container, "--", "python", "-m", "services", "--help")
    assert "registry" in asked.stdout, asked.stderr
    whoami = buildah("run", "--isolation", "chroot", container, "--", "id", "--user")
    assert whoami.stdout.strip() == "10001"


def _make_stand_in(buildah: Buildah, name: str, folder: Path) -> None:
    """An image of that name, with Python of a Debian that is made in ``folder``."""
    debootstrap = shutil.which("debootstrap")
    skip_unless(
        debootstrap and os.getuid() == 0,
        f"{name} cannot be pulled here, and nothing can be made to stand in for it",
        "a machine that reaches a registry of images; or apt install debootstrap, as root",
    )
    packages = "--include=python3,python3-venv,python-is-python3,ca-certificates"
    command = [str(debootstrap), "--variant=minbase", packages, "bookworm", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False)
    assert made.returncode == 0, made.stdout[-3000:]
    container = buildah("from", "scratch").stdout.strip()
    own = {name: value for name, value in os.environ.items() if name.startswith("PIP_") and "FIND_LINKS" not in name}
    # However packages are reached here, the image's pip reaches them, too.
    if "PIP_CERT" in own:
        shutil.copy(own["PIP_CERT"], folder / "etc" / "ssl" / "certs" / "ca-certificates.crt")
        own["PIP_CERT"] = "/etc/ssl/certs/ca-certificates.crt"
    settings = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"} | own
    assert buildah("add", container, str(folder), "/").returncode == 0
    buildah("config", *(f"--env={name}={value}" for name, value in settings.items()), container)
    assert buildah("commit", container, name).returncode == 0
