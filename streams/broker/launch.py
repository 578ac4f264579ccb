"""What an embedded broker consists of, before it runs."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import BrokerError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Launch:
    """A process to start, and where it tells what goes wrong."""

    command: list[str]
    logs: tuple[Path, ...]
    """Files whose last lines say why a start failed; the first takes the process's output."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables besides those of this process."""


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def check_port(port: int) -> None:
    """See that nobody listens on a loopback port.

    Raises:
        BrokerError: it is taken, or not ours to take.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise BrokerError(
                f"port {port} cannot be used for the broker: {error.strerror}",
                "--broker-port 0 picks a free one; --bootstrap-servers uses a broker that is there",
            ) from error
