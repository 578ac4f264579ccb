"""Asking a broker for what every client asks first: the sign that it can be used."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

_TIMEOUT_SECONDS = 5.0
_PROBE_GROUP = "tierstream-probe"


async def is_ready(bootstrap: str) -> bool:
    """Tell whether the broker at `HOST:PORT` names itself in its metadata and coordinates consumer groups.

    A new broker makes its offsets topic when it is first asked for a coordinator, which takes seconds in which
    every group fails to start: so it is asked here.
    """
    host, _, port = bootstrap.rpartition(":")
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), _TIMEOUT_SECONDS)
    except OSError:
        return False
    writer.close()
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=int(_TIMEOUT_SECONDS * 1000))
    with _quiet("aiokafka.client", "aiokafka.conn"):
        try:
            await client.start()
            await client.find_coordinator(_PROBE_GROUP)
        except (KafkaError, OSError):
            return False
        finally:
            await client.close()
    return True


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keep loggers silent: what aiokafka calls an error is none while a broker starts."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
