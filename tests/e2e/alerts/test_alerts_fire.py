"""Every alert of alerts.yml, seen firing by Prometheus itself, on a real stack to which the fault was done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.contract.test_deploy import ALERTS
from tests.e2e.alerts.monitored_stack import Rig, running_rig
from tests.e2e.alerts.real_faults import FAULTS, LASTING, Fault


def test_every_alert_has_one_fault_that_fires_it() -> None:
    named = [alert for fault in (*LASTING, *FAULTS) for alert in fault.alerts]
    assert sorted(named) == sorted(rule["alert"] for rule in ALERTS)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A stack on which nothing was wrong, and in which the faults are that take long."""
    with running_rig(tmp_path_factory.mktemp("alerts")) as rig, ExitStack() as lasting:
        for fault in LASTING:
            lasting.enter_context(fault.make(rig))
        yield rig


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_fires_its_alerts(rig: Rig, fault: Fault) -> None:
    for alert in fault.alerts:
        rig.wait_silent(alert)
        rig.forget(alert)
    with fault.make(rig):
        for alert in fault.alerts:
            rig.wait_fired(alert)


@pytest.mark.slow
@pytest.mark.parametrize("fault", LASTING, ids=lambda fault: fault.name)
def test_a_fault_that_lasts_fired_its_alerts(rig: Rig, fault: Fault) -> None:
    for alert in fault.alerts:
        rig.wait_fired(alert)
