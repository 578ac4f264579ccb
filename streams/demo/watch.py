"""Reads the stream's outputs from their start, and the worker's own figures."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from schemas.base import Event
from schemas.settings import Settings
from streams import topics
from streams.client import follow
from streams.contract import CONTRACTS
from streams.state.web_token import bearer

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


async def fetch_status(web_url: str, settings: Settings) -> dict[str, Any] | None:
    """Return what the worker's status endpoint tells, None while it does not answer."""
    return await asyncio.to_thread(_fetch, f"{web_url}/status", settings)


def _fetch(url: str, settings: Settings) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=bearer(settings.web)), timeout=5) as response:
            content = json.load(response)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None
    return content if isinstance(content, dict) else None
