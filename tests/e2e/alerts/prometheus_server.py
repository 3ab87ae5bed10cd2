"""Prometheus itself, on a stack's metrics and on rules that it is given."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from services.local.children import foreign_environment
from services.local.endpoints import Ports
from tests.enabling import skip_unless
from tests.patience import PATIENCE_SECONDS, wait_for

_LOOK_SECONDS = 0.25

Alert = tuple[str, tuple[tuple[str, str], ...]]
"""Its name, and its other labels."""


class PrometheusServer:
    """One that runs; it is asked for the state of its alerts all the time, so that a short one is seen, too."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.seen: dict[str, set[tuple[tuple[str, str], ...]]] = {}
        """The labels with which each alert has fired."""
        self._firing: set[str] = set()
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._look_again, daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._watch.start()

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        self._watch.join()

    def firing(self) -> set[str]:
        """The names of the alerts that fired when it was looked last."""
        return self._firing

    def answers(self, query: str) -> list[dict[str, Any]]:
        """What a query comes to now."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=PATIENCE_SECONDS).json()
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def _look_again(self) -> None:
        with httpx.Client(timeout=PATIENCE_SECONDS) as client:
            while not self._stop.wait(_LOOK_SECONDS):
                try:
                    alerts = client.get(f"{self.url}/api/v1/alerts").json()["data"]["alerts"]
                except httpx.TransportError:
                    continue
                fired = [alert["labels"] for alert in alerts if alert["state"] == "firing"]
                for labels in fired:
                    others = tuple(sorted((k, v) for k, v in labels.items() if k not in {"alertname", "instance"}))
                    self.seen.setdefault(labels["alertname"], set()).add(others)
                self._firing = {labels["alertname"] for labels in fired}


def prometheus_program() -> str:
    """Where it is; skips the test where it is not."""
    program = shutil.which("prometheus")
    skip_unless(program, "prometheus is not installed", "apt install prometheus", needs="prometheus")
    return str(program)


@contextmanager
def prometheus(
    folder: Path, rules: Mapping[str, Any], jobs: Mapping[str, Sequence[str]], *, every: str
) -> Iterator[PrometheusServer]:
    """A server that scrapes the ``host:port`` of each job and evaluates ``rules``, both after ``every``."""
    program = prometheus_program()
    folder.mkdir()
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    configuration = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(targets)}]} for job, targets in jobs.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    port = Ports.free_block().metering
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=foreign_environment(), start_new_session=True)
    server = PrometheusServer(port)
    try:
        wait_for("Prometheus", lambda: _is_ready(server.url) or _ended(process, folder))
        server.start()
        yield server
    finally:
        if server._watch.is_alive():
            server.close()
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=PATIENCE_SECONDS).status_code == 200
    except httpx.TransportError:
        return False


def _ended(process: subprocess.Popen[bytes], folder: Path) -> bool:
    assert process.poll() is None, (folder / "log").read_text()
    return False
