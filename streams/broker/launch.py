"""What an embedded broker consists of, before it runs."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import BrokerError

LOOPBACK = "127.0.0.1"
_PORTS = range(16384, 32768)


@dataclass(frozen=True, slots=True)
class Launch:
    """A process to start, and where it tells what goes wrong."""

    command: list[str]
    logs: tuple[Path, ...]
    """Files whose last lines say why a start failed; the first takes the process's output."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables besides those of this process."""


def free_port() -> int:
    """Return a loopback port that nobody listens on now.

    It is drawn from below those that outgoing connections get (32768 and up on Linux): one of these may be taken by the
    time its server starts, or starts again.

    Raises:
        OSError: not one of a thousand is free.
    """
    for port in random.sample(_PORTS, 1000):
        with contextlib.suppress(OSError):
            _bind(port)
            return port
    raise OSError(errno.EADDRINUSE, f"no loopback port of {_PORTS.start} to {_PORTS.stop - 1} is free")


def check_port(port: int, of: str, remedy: str) -> None:
    """See that nobody listens on a loopback port.

    Args:
        port: the port.
        of: whose it is to be.
        remedy: what to do where it cannot be.

    Raises:
        BrokerError: it is taken, or not ours to take.
    """
    try:
        _bind(port)
    except OSError as error:
        raise BrokerError(f"port {port} cannot be used for {of}: {error.strerror}", remedy) from error


def _bind(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((LOOPBACK, port))
