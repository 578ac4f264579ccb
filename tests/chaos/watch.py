"""Follows the score updates while things break, to know when all that was published has its effect."""

from __future__ import annotations

import asyncio
import threading
import time

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.settings import Settings


class Watcher:
    """Reads `score-updates` in a thread; a context manager."""

    def __init__(self, settings: Settings, bootstrap: str) -> None:
        self.judged: dict[str, float] = {}
        """When the first update of each feedback was seen."""
        self.arrived: set[str] = set()
        self._settings, self._bootstrap = settings, bootstrap
        self._positions: dict[TopicPartition, int] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._follow()), daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    async def _follow(self) -> None:
        while not self._closing.is_set():
            try:
                await self._read()
            except (KafkaError, OSError):
                await asyncio.sleep(0.3)

    async def _read(self) -> None:
        topic = self._settings.topic("score-updates")
        tps = [TopicPartition(topic, p) for p in range(self._settings.topics.partitions)]
        async with AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        ) as consumer:
            consumer.assign(tps)
            for tp, position in self._positions.items():
                consumer.seek(tp, position)
            while not self._closing.is_set():
                for tp, records in (await consumer.getmany(*tps, timeout_ms=200)).items():
                    for record in records:
                        self._note(orjson.loads(record.value))
                        self._positions[tp] = record.offset + 1

    def _note(self, update: dict[str, str]) -> None:
        if name := update.get("feedback_id"):
            self.judged.setdefault(name, time.monotonic())
        else:
            self.arrived.add(update["experience_id"])
