"""What a stack's own programs get of the environment that it was started in."""

from __future__ import annotations

import pytest

from services.local.children import our_environment
from services.runtime.kafka_access import KafkaSettings


def test_nothing_says_how_another_kafka_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    # The broker of `byok up` is plain, whatever the operator has set for the cluster in production.
    names = {f"BYOK_{name.upper()}" for name in KafkaSettings.model_fields if name.startswith("kafka_s")}
    assert len(names) == 8
    for name in names:
        monkeypatch.setenv(name, "SASL_SSL")
    monkeypatch.setenv("BYOK_KAFKA_TIMEOUT_SECONDS", "5")
    told = our_environment()
    assert not names & told.keys()
    assert told["BYOK_KAFKA_TIMEOUT_SECONDS"] == "5"
