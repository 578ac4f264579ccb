"""The measurements: one worker on the embedded Apache Kafka, and a producer that costs it little."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import psutil

from benchmarks.load import Load, feedback_id, percentile
from benchmarks.system import START_TIMEOUT_SECONDS, Command, CommandFailedError, last_line, settings_of
from benchmarks.topics import ends, read_all, reader, wait_until_processed
from schemas.events import ScoreUpdate
from schemas.settings import Settings
from streams import topology
from streams.broker.launch import free_port
from streams.kafka_options import client_options
from streams.publisher import Outgoing, Publisher
from streams.supervisor import answers

PROCESSING_TIMEOUT_SECONDS = 1800.0
PUBLISH_AT_ONCE = 500
LAG_EVERY_SECONDS = 5.0
"""Measuring it costs the machine that is measured."""
LATE_SECONDS = 30.0
"""How long the last score updates of the open loop are waited for."""

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
    """Of the worker, from its readiness on."""

    @property
    def per_second(self) -> float:
        """Feedbacks a second through join, Tier 1 and score updates."""
        return self.updates / self.seconds


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Feedback at a fixed rate, whatever the answer takes."""

    rate: float
    seen_ms: list[float]
    """From the moment at which a feedback was due until a consumer had its score update."""
    own_ms: list[float]
    """What the updates themselves tell: from the broker's time of the feedback to the update."""
    missing: int
    """Feedbacks without an update in time."""

    def summary(self) -> dict[str, float]:
        """Return percentiles in milliseconds."""
        lists = {"seen": self.seen_ms, "own": self.own_ms}
        return {
            f"{name} p{share * 100:g}": round(percentile(values, share), 2)
            for name, values in lists.items()
            for share in (0.5, 0.9, 0.99, 1.0)
        }


@dataclass(frozen=True, slots=True)
class Memory:
    """The worker's resident memory."""

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
        cpu_seconds = self._cpu_seconds() - before
        self._processed = feedbacks
        async with reader(self.settings, topology.SCORER_ENTRIES, joined) as consumer:
            first = (await consumer.getone()).timestamp
        updates = await read_all(self.settings, topology.SCORE_UPDATES, scored)
        last = max(record.timestamp_ms for record in updates)
        distinct = {ScoreUpdate.from_json(record.value).feedback_id for record in updates}
        return Saturation(feedbacks, len(distinct), (last - first) / 1000, cpu_seconds)

    async def open_loop(self, rate: float, seconds: float) -> OpenLoop:
        """Publish `rate` feedbacks a second on their due times, and note when their score updates are seen."""
        messages = self.load.feedback(self._sent, int(rate * seconds))
        ids = [feedback_id(self._sent + number) for number in range(len(messages))]
        self._sent += len(messages)
        self._processed += len(messages)
        self._say(f"publishing {rate:g} feedbacks a second for {seconds:g} s")
        start = time.time() + 1.0
        due = {name: start + number / rate for number, name in enumerate(ids)}
        async with self._publisher() as publisher:
            watching = asyncio.create_task(self._watch(await self._score_ends(), set(ids), start + seconds))
            sending = []
            for name, message in zip(ids, messages, strict=True):
                await asyncio.sleep(due[name] - time.time())
                sending.append(asyncio.create_task(publisher.publish([message])))
            await asyncio.gather(*sending)
            seen = await watching
        return OpenLoop(
            rate,
            [(at - due[name]) * 1000 for name, (at, _) in seen.items()],
            [own for _, own in seen.values()],
            len(ids) - len(seen),
        )

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
        return Memory(self._processed, psutil.Process(pid).memory_info().rss, _peak_bytes(pid))

    async def _watch(self, starts: dict[int, int], wanted: set[str], until: float) -> dict[str, tuple[float, float]]:
        """Return when each feedback's update was seen, in epoch seconds, with the update's own latency."""
        seen: dict[str, tuple[float, float]] = {}
        async with reader(self.settings, topology.SCORE_UPDATES, starts) as consumer:
            while wanted - seen.keys() and time.time() < until + LATE_SECONDS:
                batches = await consumer.getmany(timeout_ms=500)
                now = time.time()
                for record in (record for batch in batches.values() for record in batch):
                    update = ScoreUpdate.from_json(record.value)
                    if update.feedback_id in wanted:
                        seen.setdefault(update.feedback_id, (now, update.latency_ms))
        return seen

    def _cpu_seconds(self) -> float:
        assert self.worker is not None
        times = psutil.Process(self.worker.process.pid).cpu_times()
        return times.user + times.system

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
        async with self._publisher() as publisher:
            while chunk := list(islice(waiting, PUBLISH_AT_ONCE)):
                await publisher.publish(chunk)

    @asynccontextmanager
    async def _publisher(self) -> AsyncIterator[Publisher]:
        publisher = Publisher(client_options(self.settings))
        await publisher.start()
        try:
            yield publisher
        finally:
            await publisher.stop()


def _peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
