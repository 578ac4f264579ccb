"""The measurements: one worker on the embedded Apache Kafka, and a producer that costs it little."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.load import Load, feedback_id
from benchmarks.open_loop import OpenLoop, open_loop, publisher_of
from benchmarks.processes import cpu_seconds, peak_bytes, resident_bytes
from benchmarks.system import START_TIMEOUT_SECONDS, Command, CommandFailedError, last_line, settings_of
from benchmarks.topics import ends, read_all, reader, wait_until_processed
from schemas.events import ScoreUpdate
from schemas.settings import Settings
from streams import topology
from streams.broker.launch import free_port
from streams.publisher import Outgoing
from streams.supervisor import answers

PROCESSING_TIMEOUT_SECONDS = 1800.0
PUBLISH_AT_ONCE = 500
LAG_EVERY_SECONDS = 5.0
"""Measuring it costs the machine that is measured."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Saturation:
    """Feedback that lay ready when the worker started."""

    feedbacks: int
    updates: int
    """Distinct feedbacks that were published as score updates."""
    seconds: float
    """From the first output of the join until the last score update, by the records' times."""
    cpu_seconds: float
    """Of the worker and its scorer's process, from readiness on."""

    @property
    def per_second(self) -> float:
        """Feedbacks a second through join, Tier 1 and score updates."""
        return self.updates / self.seconds


@dataclass(frozen=True, slots=True)
class Memory:
    """The resident memory of the worker and its scorer's process."""

    events: int
    """Events that this process had processed."""
    now_bytes: int
    peak_bytes: int


class Bench:
    """Broker and worker of one measurement.

    Args:
        folder: empty; everything is written there.
        experiences: how many the feedback is about.
        say: takes a line of progress.
    """

    def __init__(self, folder: Path, experiences: int, say: Say) -> None:
        self._folder, self._data_dir, self._say = folder, folder / "data", say
        arguments = ["broker", "--broker", "kafka", "--broker-port", "0", "--data-dir", str(self._data_dir)]
        self.broker = Command(arguments, {}, folder / "broker.log")
        try:
            self.broker.wait_until_ready()
        except BaseException:
            self.broker.stop()
            raise
        self.bootstrap = self.broker.values["broker"]
        self.settings: Settings = settings_of(self.bootstrap, self._data_dir, {})
        self.worker: Command | None = None
        self.load = Load(self.settings, experiences)
        self._experiences = experiences
        self._sent = 0
        """Feedbacks so far."""
        self._processed = 0
        """Events of this worker process."""

    def stop(self) -> None:
        """Stop worker and broker."""
        if self.worker is not None:
            self.worker.stop()
        self.broker.stop()

    async def stage(self) -> float:
        """Publish the experiences and wait until they are scored; return how many a second."""
        await self._start_worker()
        self._say(f"publishing {self._experiences:,} experiences")
        started = time.monotonic()
        await self._publish(self.load.experiences())
        await self._wait()
        return self._experiences / (time.monotonic() - started)

    async def saturate(self, feedbacks: int) -> Saturation:
        """Publish feedback while no worker runs, start one, and take the times of what it publishes."""
        assert self.worker is not None
        self.worker.stop()
        self._say(f"publishing {feedbacks:,} feedbacks for a worker to come")
        await self._publish(self.load.feedback(self._sent, feedbacks))
        self._sent += feedbacks
        joined, scored = await ends(self.settings, topology.SCORER_ENTRIES), await self._score_ends()
        await self._start_worker()
        before = self._cpu_seconds()
        await self._wait()
        spent = self._cpu_seconds() - before
        self._processed = feedbacks
        async with reader(self.settings, topology.SCORER_ENTRIES, joined) as consumer:
            first = (await consumer.getone()).timestamp
        updates = await read_all(self.settings, topology.SCORE_UPDATES, scored)
        last = max(record.timestamp_ms for record in updates)
        distinct = {ScoreUpdate.from_json(record.value).feedback_id for record in updates}
        return Saturation(feedbacks, len(distinct), (last - first) / 1000, spent)

    async def open_loop(self, rate: float, seconds: float) -> OpenLoop:
        """Publish `rate` feedbacks a second on their due times, and note when their score updates are seen."""
        messages = self.load.feedback(self._sent, int(rate * seconds))
        ids = [feedback_id(self._sent + number) for number in range(len(messages))]
        self._sent += len(messages)
        self._processed += len(messages)
        self._say(f"publishing {rate:g} feedbacks a second for {seconds:g} s")
        return await open_loop(self.settings, dict(zip(ids, messages, strict=True)), rate)

    async def fill_memory(self, events: int) -> Memory:
        """Go on until the worker process has processed so many events; return its memory."""
        assert self.worker is not None
        missing = max(0, events - self._processed)
        self._say(f"publishing {missing:,} feedbacks")
        while missing:
            count = min(missing, 20_000)
            await self._publish(self.load.feedback(self._sent, count))
            self._sent += count
            self._processed += count
            missing -= count
        await self._wait()
        pid = self.worker.process.pid
        return Memory(self._processed, resident_bytes(pid), peak_bytes(pid))

    def _cpu_seconds(self) -> float:
        assert self.worker is not None
        return cpu_seconds(self.worker.process.pid)

    async def _score_ends(self) -> dict[int, int]:
        return await ends(self.settings, topology.SCORE_UPDATES)

    async def _start_worker(self) -> None:
        port = free_port()
        arguments = ["worker", "--bootstrap-servers", self.bootstrap, "--data-dir", str(self._data_dir)]
        log = self._folder / "worker.log"
        self.worker = Command([*arguments, "--web-port", str(port)], {}, log)
        self._processed = 0
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not await asyncio.to_thread(answers, f"http://127.0.0.1:{port}/readyz"):
            if self.worker.process.poll() is not None or time.monotonic() > deadline:
                raise CommandFailedError(f"the worker is not ready: {last_line(log)} (log: {log})")
            await asyncio.sleep(0.1)
        self._say(f"worker is ready (process {self.worker.process.pid})")

    async def _wait(self) -> None:
        await wait_until_processed(self.settings, PROCESSING_TIMEOUT_SECONDS, self._say, LAG_EVERY_SECONDS)

    async def _publish(self, messages: Iterable[Outgoing]) -> None:
        waiting = iter(messages)
        async with publisher_of(self.settings) as publisher:
            while chunk := list(islice(waiting, PUBLISH_AT_ONCE)):
                await publisher.publish(chunk)
