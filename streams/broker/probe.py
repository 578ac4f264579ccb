"""Asking a broker for its metadata: the one sign that it can be used."""

from __future__ import annotations

import asyncio

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

_TIMEOUT_SECONDS = 2.0


async def answers_metadata(bootstrap: str) -> bool:
    """Tell whether the broker at `HOST:PORT` accepts connections and names itself in its metadata."""
    host, _, port = bootstrap.rpartition(":")
    # aiokafka logs an error for a refused connection, which is no error while the broker starts.
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), _TIMEOUT_SECONDS)
    except OSError:
        return False
    writer.close()
    client = AIOKafkaClient(bootstrap_servers=bootstrap, request_timeout_ms=int(_TIMEOUT_SECONDS * 1000))
    try:
        await client.bootstrap()
        return bool(client.cluster.brokers())
    except (KafkaError, OSError):
        return False
    finally:
        await client.close()
