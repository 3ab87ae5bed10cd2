"""What a meter shows to Prometheus, as text and through prometheus_client, and what the command prints."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from byok_sdk import Counts
from byok_sdk.metrics import METRICS, Shown, collector, prometheus_text
from byok_sdk.spool import Spool
from byok_sdk.status import main
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families


@pytest.fixture
def shown() -> Shown:
    return Shown(Counts(1_234_567_890, 5, 1, 3, 400, time.time() - 60), sending_trouble="503")


def values(text: str) -> dict[str, float]:
    return {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}


def test_the_text_is_what_prometheus_reads(shown: Shown) -> None:
    found = values(prometheus_text(shown))
    assert list(found) == [metric.name for metric in METRICS]
    assert found["byok_sdk_accepted_events_total"] == 1_234_567_890
    assert found["byok_sdk_oldest_waiting_seconds"] == pytest.approx(60, abs=5)
    assert (found["byok_sdk_sending_failed"], found["byok_sdk_changes_unheard"]) == (1, 0)


def test_a_runner_s_own_registry_shows_the_same(shown: Shown) -> None:
    registry = CollectorRegistry()
    registry.register(collector(lambda: shown))
    assert values(generate_latest(registry).decode()) == pytest.approx(values(prometheus_text(shown)), abs=5)


def test_the_command_counts_over_all_slots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        spool = Spool(tmp_path / f"{number}.sqlite", durability="process")
        for _ in range(number):
            spool.add(b"{}")
        spool.settle([spool.due(1, 100)[0].row])
    assert main(["status", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["accepted"], told["acknowledged"], told["waiting"], told["balanced"], told["slots"]) == (
        3,
        2,
        1,
        True,
        2,
    )
    assert main(["status", str(tmp_path), "--prometheus"]) == 0
    assert values(capsys.readouterr().out)["byok_sdk_waiting_events"] == 1
    (tmp_path / "3.sqlite").write_bytes(b"no database, but as long as one must be to be looked at" * 40)
    assert main(["status", str(tmp_path)]) == 1
    assert "3.sqlite cannot be read" in capsys.readouterr().out
    assert main(["status", str(tmp_path / "nowhere")]) == 2
