"""What our consumer does where aiokafka's would end its thread."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import KafkaConnectionError

from streams.kafka.consumer import _Fetcher


class Gone:
    """A client whose broker has gone."""

    async def send(self, *_: Any) -> None:
        """Fail as a connection that is closed does."""
        raise KafkaConnectionError("closed")


def test_a_consumer_stops_in_order_while_a_failed_fetch_waits_to_be_made_again() -> None:
    async def close_in_the_pause() -> None:
        fetcher = _Fetcher.__new__(_Fetcher)
        fetcher._client, fetcher._retry_backoff, fetcher._preferred_read_replica = Gone(), 60.0, {}
        fetcher._fetch_waiters = set()
        fetcher._fetch_task = asyncio.create_task(asyncio.sleep(60.0))
        request = SimpleNamespace(topics=[])
        fetcher._pending_tasks = {
            asyncio.create_task(fetcher._proc_fetch_request(None, node, request)) for node in range(2)
        }
        await asyncio.sleep(0)
        await fetcher.close()
        assert [task.result() for task in fetcher._pending_tasks] == [False, False]

    asyncio.run(asyncio.wait_for(close_in_the_pause(), 10.0))
