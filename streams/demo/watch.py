"""Reads the stream's outputs from their start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from schemas.base import Event
from schemas.settings import Settings
from streams import topics
from streams.client import follow
from streams.contract import CONTRACTS

WATCHED = (topics.SCORE_UPDATES, topics.PAIRS, topics.JOBS, topics.JOB_UPDATES)


async def watch(settings: Settings, take: Callable[[Event], None]) -> None:
    """Hand every event of the watched topics to `take`, for ever.

    Raises:
        ConnectionFailedError: the broker is lost.
    """

    async def one(topic: str) -> None:
        async for event in follow(settings, topic, CONTRACTS[topic].event, start="earliest"):
            take(event)

    await asyncio.gather(*map(one, WATCHED))
