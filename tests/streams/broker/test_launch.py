"""Ports for what is started on this machine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from schemas.errors import BrokerError
from streams.broker.launch import check_port, free_port

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.mark.skipif(not RANGE.exists(), reason="the kernel does not tell which ports outgoing connections get")
def test_a_free_port_is_none_that_an_outgoing_connection_gets() -> None:
    first, last = map(int, RANGE.read_text().split())
    if first < 32768:
        pytest.skip(f"outgoing connections get ports from {first} on here, where others have 32768")
    ports = {free_port() for _ in range(20)}
    assert len(ports) > 1
    assert all(1024 < port < first or port > last for port in ports)


def test_a_port_that_is_taken_is_told_with_whose_it_was_to_be() -> None:
    port = free_port()
    check_port(port, "the web server", "web.port 0 picks a free one")
    with socket.create_server(("127.0.0.1", port)), pytest.raises(BrokerError) as told:
        check_port(port, "the web server", "web.port 0 picks a free one")
    assert str(told.value) == (
        f"port {port} cannot be used for the web server: Address already in use; web.port 0 picks a free one"
    )
