"""The table of metrics holds together, and each service shows those of its own in it, and no others."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import create_engine

from schemas.metrics import METRICS, PROCESS_METRICS, Kind, Metric, Service, Unit
from services.books.totals import SHOWN_AS
from services.key_registry.api.callers import CallLimits
from services.key_registry.api.routes import registry_app
from services.key_registry.database.sessions import sessions_on
from services.key_registry.metrics import registry_metrics
from services.ledger.conservation import ConservationWatch
from services.ledger.metrics import door_refusals, ledger_metrics
from services.metering.metrics import MeteringMetrics
from services.runtime.metrics import process_registry
from services.runtime.rate_limit import RateLimit
from services.runtime.request_bodies import BodyBounds
from services.runtime.settings import HttpSettings
from services.runtime.web import create_app

# An engine that nobody connects.
NOWHERE = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")


BODIES = BodyBounds.of(HttpSettings(), 1_000)


def _key_registry() -> CollectorRegistry:
    metrics = registry_metrics(sessions_on(NOWHERE))
    nothing: Any = None
    limits = CallLimits(RateLimit(1, 1), RateLimit(1, 1))
    registry_app(nothing, nothing, metrics, {}, limits, BODIES)
    return metrics


def _metering() -> CollectorRegistry:
    metrics = MeteringMetrics(lambda: 7, lambda: {3: 5}, lambda: True, list).registry
    create_app(title="t", description="t", metrics=metrics, checks={}, bodies=BODIES)
    return metrics


def _ledger() -> CollectorRegistry:
    metrics = ledger_metrics(NOWHERE, ConservationWatch(NOWHERE, "t"))
    door_refusals(metrics)
    create_app(title="t", description="t", metrics=metrics, checks={}, bodies=BODIES)
    return metrics


def _console() -> CollectorRegistry:
    metrics = process_registry()
    create_app(title="t", description="t", metrics=metrics, checks={}, bodies=BODIES)
    return metrics


SERVICES = sorted(set(Service) - {Service.VERIFY})

SHOWING: dict[Service, Callable[[], CollectorRegistry]] = {
    Service.KEY_REGISTRY: _key_registry,
    Service.METERING: _metering,
    Service.LEDGER: _ledger,
    Service.CONSOLE: _console,
}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_shows_its_metrics_of_the_table_and_no_others(service: Service) -> None:
    # What Prometheus' client knows of a process is described by nobody; it is looked at below.
    collectors: list[Any] = [each for each in SHOWING[service]()._collector_to_names if hasattr(each, "describe")]
    shown = {family.name: (family.type, family.documentation) for each in collectors for family in each.describe()}
    told = {
        metric.name.removesuffix("_total"): (metric.kind, metric.help)
        for metric in METRICS
        if service in metric.shown_by
    }
    assert shown == told


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_tells_its_release_and_what_it_takes_of_the_machine(service: Service) -> None:
    page = generate_latest(SHOWING[service]()).decode()
    names = set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))
    assert {name for name in names if not name.startswith("byok_")} == set(PROCESS_METRICS)
    assert re.search(r'^byok_build_info\{version="\d+\.\d+\.\d+"\} 1\.0$', page, re.MULTILINE)


def test_names_are_unique_and_say_what_the_format_and_the_unit_want() -> None:
    assert len(METRICS) > 20
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("byok_")
        assert metric.name.endswith("_total") is (metric.kind is Kind.COUNTER), metric.name
        assert ("_seconds" in metric.name) is (metric.unit is Unit.SECONDS), metric.name
        assert ("_credits" in metric.name) is (metric.unit is Unit.CREDITS), metric.name
        assert metric.shown_by
        assert metric.help.endswith("."), metric.name


def test_no_label_has_a_value_for_each_customer() -> None:
    unbounded = {"org_id", "organization", "user_id", "team_id", "credential_id", "model", "source", "cluster"}
    assert not {label for metric in METRICS for label in metric.labels} & unbounded


@pytest.mark.parametrize("metric", SHOWN_AS.values(), ids=lambda metric: metric.name)
def test_totals_are_counters_of_the_ledger_service(metric: Metric) -> None:
    assert metric.kind is Kind.COUNTER
    assert metric.shown_by == (Service.LEDGER,)
