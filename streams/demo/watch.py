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
from streams.contract import CONTRACTS
from streams.kafka.consumer import Consumer
from streams.kafka.options import broker_errors, client_options
from streams.state.web_token import bearer
from streams.training.records import parse

WATCHED = (topics.SCORE_UPDATES, topics.PAIRS, topics.JOBS, topics.JOB_UPDATES)


async def watch(settings: Settings, take: Callable[[Event], None]) -> None:
    """Hand every event of the watched topics to `take`, for ever.

    Raises:
        ConnectionFailedError: the broker is lost.
    """
    models = {settings.topic(topic): CONTRACTS[topic].event for topic in WATCHED}
    consumer = Consumer(*models, **client_options(settings), enable_auto_commit=False, auto_offset_reset="earliest")
    with broker_errors(settings):
        try:
            await consumer.start()
            async for record in consumer:
                value = record.value or b""
                take(
                    parse(value)
                    if record.topic == settings.topic(topics.JOBS)
                    else models[record.topic].from_json(value)
                )
        finally:
            await consumer.stop()


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
