"""Every query of the dashboards, and every recorded one, answers on what the demo leaves, asked by PromQL's engine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from services.local.endpoints import Ports
from tests.contract.test_deploy import DASHBOARDS, PROMETHEUS, RECORDED, dashboard_queries
from tests.enabling import skip_unless
from tests.patience import PATIENCE_SECONDS

# What Grafana would put there: the demo was over after five minutes, and it is the eighth.
_MINUTES = {"$__rate_interval": "5m", "$__range": "10m"}
_VALUES = {"counter": "0x5 {0}x5", "histogram": "0x5 {0}x5", "gauge": "{0}x10"}
_ASKED_AT = "8m"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """``/metrics`` of each job once the demo is over, and its stack still there."""
    folder, ports = tmp_path_factory.mktemp("demo"), Ports.free_block()
    command = [sys.executable, "-m", "services", "demo", "--events", "2000", "--keep"]
    command += ["--data-dir", str(folder / "data"), "--port-base", str(ports.kafka)]
    log = folder / "log"
    with log.open("wb") as output:
        demo = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "Where to look next" not in log.read_text():
            assert demo.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        # What was booked last is counted a few seconds later.
        while "byok_conservation_residual_events{" not in _page(ports.ledger):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        jobs = {"registry": ports.registry, "ledger": ports.ledger, "metering": ports.metering}
        yield {job: _page(port) for job, port in jobs.items()}
    finally:
        demo.terminate()
        demo.wait(PATIENCE_SECONDS)


def _page(port: int) -> str:
    return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_SECONDS).text


def _scraped(job: str, page: str) -> Iterator[dict[str, str]]:
    where = {"job": job, "instance": job}
    yield {"series": _series("up", where), "values": "1x10"}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            # The stack was made for the demo, so whatever it counted began at 0.
            values = _VALUES.get(family.type, _VALUES["gauge"]).format(sample.value)
            yield {"series": _series(sample.name, sample.labels | where), "values": values}


def _series(name: str, labels: dict[str, str]) -> str:
    return f"{name}{{{', '.join(f'{label}={json.dumps(value)}' for label, value in labels.items())}}}"


def _something(query: str) -> dict[str, Any]:
    for variable, minutes in _MINUTES.items():
        query = query.replace(variable, minutes)
    # What is no number differs from itself.
    expression = f"count(({query}) == ({query})) > bool 0"
    return {"expr": expression, "eval_time": _ASKED_AT, "exp_samples": [{"labels": "{}", "value": 1}]}


@pytest.mark.slow
@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_every_query_of_a_dashboard_answers_on_the_data_of_the_demo(
    file: Path, pages: dict[str, str], tmp_path: Path
) -> None:
    queries = dashboard_queries(file)
    assert len(queries) > 5
    _assert_answered(queries, pages, tmp_path)


@pytest.mark.slow
def test_what_the_rules_record_is_there_as_well(pages: dict[str, str], tmp_path: Path) -> None:
    assert RECORDED
    _assert_answered(list(RECORDED), pages, tmp_path)


def _assert_answered(queries: list[str], pages: dict[str, str], tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    skip_unless(promtool, "promtool is not installed", "apt install prometheus", needs="promtool")
    test = {
        "interval": "1m",
        "input_series": [series for job, page in pages.items() for series in _scraped(job, page)],
        "promql_expr_test": [_something(query) for query in queries],
    }
    file = tmp_path / "dashboards.yml"
    document = {"rule_files": [str(PROMETHEUS / "alerts.yml")], "evaluation_interval": "1m", "tests": [test]}
    file.write_text(yaml.safe_dump(document, width=10_000))
    done = subprocess.run(
        [str(promtool), "test", "rules", str(file)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    silent = re.findall(r'expr: "(.+)", time', done.stdout + done.stderr)
    assert not silent
    assert done.returncode == 0, done.stdout + done.stderr
