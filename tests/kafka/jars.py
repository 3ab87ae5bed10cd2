"""The jars of Apache Kafka, fetched from Maven Central once, each held to a checksum that stands in this repository."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.patience import PATIENCE_SECONDS

_CENTRAL = os.environ.get("MAVEN_CENTRAL", "https://repo.maven.apache.org/maven2").rstrip("/")
_LIST = Path(__file__).with_name("jars.sha256")
_JAVA_MIN = 17


class KafkaUnavailableError(Exception):
    """Apache Kafka cannot run here; the message says what is missing and what to do."""


class Jar(NamedTuple):
    """One file of Maven Central."""

    sha256: str
    path: str

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.rpartition("/")[2]


def jars() -> list[Jar]:
    """The pinned list."""
    lines = (line for line in _LIST.read_text().splitlines() if line and not line.startswith("#"))
    return [Jar(*line.split(maxsplit=1)) for line in lines]


def version() -> str:
    """Which Apache Kafka the list is about."""
    (own,) = (jar for jar in jars() if jar.name.startswith("kafka_"))
    return own.path.split("/")[-2]


def cache_folder() -> Path:
    """Where the jars of this version are kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "byok-credit-metering" / f"kafka-{version()}"


def fetch() -> Path:
    """The folder with all jars; what is missing is fetched. Raises KafkaUnavailableError."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda jar: _fetch(jar, folder), jars()))
    except (OSError, urllib.error.URLError) as error:
        raise KafkaUnavailableError(f"the jars of Apache Kafka cannot be fetched from {_CENTRAL}: {error}") from error
    return folder


def _fetch(jar: Jar, folder: Path) -> None:
    target = folder / jar.name
    if target.is_file():
        return
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as scratch:
        try:
            with urllib.request.urlopen(f"{_CENTRAL}/{jar.path}", timeout=PATIENCE_SECONDS) as answer:  # noqa: S310
                while block := answer.read(1 << 20):
                    digest.update(block)
                    scratch.write(block)
            if digest.hexdigest() != jar.sha256:
                raise KafkaUnavailableError(f"{jar.path} is not what was pinned: its sha256 is {digest.hexdigest()}")
            Path(scratch.name).replace(target)
        finally:
            Path(scratch.name).unlink(missing_ok=True)


def java() -> str:
    """The Java to run Kafka with. Raises KafkaUnavailableError where there is none, or one that is too old."""
    home = os.environ.get("JAVA_HOME")
    program = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    advice = f"install a JDK or JRE {_JAVA_MIN} or newer (Debian: apt-get install openjdk-17-jre-headless)"
    if program is None:
        raise KafkaUnavailableError(f"Apache Kafka needs Java: {advice}")
    try:
        shown = subprocess.run([program, "-XshowSettings:properties", "-version"], capture_output=True, text=True)
    except OSError as error:
        raise KafkaUnavailableError(f"{program} does not run ({error}): {advice}") from error
    lines = (line.strip().partition(" = ") for line in shown.stderr.splitlines())
    found = {name: value for name, _, value in lines}.get("java.specification.version", "0")
    # Before Java 9 it was called 1.8 and the like.
    if int(found.partition(".")[0]) < _JAVA_MIN:
        raise KafkaUnavailableError(f"Apache Kafka needs Java {_JAVA_MIN}, and {program} is {found}: {advice}")
    return program
