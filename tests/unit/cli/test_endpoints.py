"""Ports: consecutive, checked before use, and named when taken."""

from __future__ import annotations

import socket

import pytest

from services.cli.endpoints import Ports
from services.cli.processes import StackError


def test_a_free_block_is_consecutive_and_can_be_asked_for_by_its_base():
    ports = Ports.free_block()
    assert list(ports) == list(range(ports.kafka, ports.kafka + 5))
    assert Ports.from_base(ports.kafka) == ports
    assert ports.address("ledger") == f"127.0.0.1:{ports.kafka + 3}"


@pytest.mark.parametrize("name", Ports._fields)
def test_a_taken_port_is_named(name):
    ports = Ports.free_block()
    with socket.socket() as other:
        other.bind(("127.0.0.1", ports._asdict()[name]))
        other.listen()
        with pytest.raises(StackError, match=rf"port {ports._asdict()[name]} \({name}\) is taken"):
            Ports.from_base(ports.kafka)


@pytest.mark.parametrize("base", [-1, 0, 65_532, 70_000])
def test_a_base_without_enough_ports_is_refused(base):
    with pytest.raises(StackError, match="no 5 ports"):
        Ports.from_base(base)
