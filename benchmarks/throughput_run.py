"""The measurements: workers on the embedded Apache Kafka, and a producer that costs them little."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.load import Load, feedback_id
from benchmarks.open_loop import OpenLoop, open_loop, publisher_of
from benchmarks.processes import cpu_seconds, family, peak_bytes, resident_bytes
from benchmarks.system import START_TIMEOUT_SECONDS, Command, CommandFailedError, last_line, settings_of
from benchmarks.topics import ends, read_all, reader, wait_until_processed
from schemas.events import ScoreUpdate
from schemas.settings import Settings
from streams import topics
from streams.broker.launch import free_port
from streams.kafka.publisher import Outgoing
from streams.stack.supervisor import answers

PROCESSING_TIMEOUT_SECONDS = 1800.0
PUBLISH_AT_ONCE = 500
LAG_EVERY_SECONDS = 5.0
"""Measuring it costs the machine that is measured."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Saturation:
    """Feedback that lay ready when the workers started, or went on."""

    feedbacks: int
    updates: int
    """Distinct feedbacks that were published as score updates."""
    seconds: float
    """From the first output of the join, or where workers went on from then, until the last score update."""
    cpu_seconds: float
    """Of the workers and their scorers' processes, from readiness on."""
    broker_cpu_seconds: float
    """Of the broker meanwhile."""

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
    """Broker and workers of one measurement.

    Args:
        folder: empty; everything is written there.
        experiences: how many the feedback is about.
        say: takes a line of progress.
        workers: how many work side by side.
        variables: settings of the workers that differ from the defaults.
    """

    def __init__(
        self, folder: Path, experiences: int, say: Say, workers: int = 1, variables: Mapping[str, str] | None = None
    ) -> None:
        self._folder, self._data_dir, self._say = folder, folder / "data", say
        self._count, self._variables = workers, dict(variables or {})
        arguments = ["broker", "--broker", "kafka", "--broker-port", "0", "--data-dir", str(self._data_dir)]
        self.broker = Command(arguments, {}, folder / "broker.log")
        try:
            self.broker.wait_until_ready()
        except BaseException:
            self.broker.stop()
            raise
        self.bootstrap = self.broker.values["broker"]
        self.settings: Settings = settings_of(self.bootstrap, self._data_dir, {})
        self.workers: list[Command] = []
        self.load = Load(self.settings, experiences)
        self._experiences = experiences
        self._sent = 0
        """Feedbacks so far."""
        self._broker_before = 0.0
        """The broker's CPU seconds when the last feedback to wait was published."""
        self._processed = 0
        """Events of these worker processes."""

    def stop(self) -> None:
        """Stop workers and broker."""
        self.stop_workers()
        self.broker.stop()

    def stop_workers(self) -> None:
        """Stop the workers."""
        for worker in self.workers:
            worker.stop()
        self.workers = []

    async def stage(self) -> float:
        """Publish the experiences and wait until they are scored; return how many a second."""
        await self.start_workers()
        self._say(f"publishing {self._experiences:,} experiences")
        started = time.monotonic()
        await self._publish(self.load.experiences())
        await self._wait()
        return self._experiences / (time.monotonic() - started)

    async def saturate(self, feedbacks: int) -> Saturation:
        """Publish feedback while no worker runs, start the workers, and take the times of what they publish."""
        self.stop_workers()
        self._say(f"publishing {feedbacks:,} feedbacks for a worker to come")
        await self._publish_feedback(feedbacks)
        joined, scored = await ends(self.settings, topics.SCORER_LOG), await self._score_ends()
        await self.start_workers()
        before = self._cpu_seconds()
        await self._wait()
        spent = self._cpu_seconds() - before
        self._processed = feedbacks
        async with reader(self.settings, topics.SCORER_LOG, joined) as consumer:
            first = (await consumer.getone()).timestamp
        return await self._saturation(feedbacks, scored, first / 1000, spent)

    async def resume(self, feedbacks: int) -> Saturation:
        """Publish feedback while the workers stand still, let them go on, and take the time until the last update.

        Unlike `saturate`, no rebalance of several workers falls into the measured time; their sessions must last.
        """
        self._tell(signal.SIGSTOP)
        self._say(f"publishing {feedbacks:,} feedbacks while the workers stand still")
        await self._publish_feedback(feedbacks)
        scored = await self._score_ends()
        before, started = self._cpu_seconds(), time.time()
        self._tell(signal.SIGCONT)
        await self._wait()
        self._processed += feedbacks
        return await self._saturation(feedbacks, scored, started, self._cpu_seconds() - before)

    async def open_loop(self, rate: float, seconds: float) -> OpenLoop:
        """Publish `rate` feedbacks a second on their due times, and note when their score updates are seen."""
        messages = self.load.feedback(self._sent, int(rate * seconds))
        ids = [feedback_id(self._sent + number) for number in range(len(messages))]
        self._sent += len(messages)
        self._processed += len(messages)
        self._say(f"publishing {rate:g} feedbacks a second for {seconds:g} s")
        return await open_loop(self.settings, dict(zip(ids, messages, strict=True)), rate)

    async def fill_memory(self, events: int) -> Memory:
        """Go on until the worker processes have processed so many events; return their memory."""
        missing = max(0, events - self._processed)
        self._say(f"publishing {missing:,} feedbacks")
        while missing:
            count = min(missing, 20_000)
            await self._publish_feedback(count)
            self._processed += count
            missing -= count
        await self._wait()
        pids = [worker.process.pid for worker in self.workers]
        return Memory(self._processed, sum(map(resident_bytes, pids)), sum(map(peak_bytes, pids)))

    async def _saturation(self, feedbacks: int, scored: dict[int, int], first: float, spent: float) -> Saturation:
        broker = cpu_seconds(self.broker.process.pid) - self._broker_before
        updates = await read_all(self.settings, topics.SCORE_UPDATES, scored)
        last = max(record.timestamp_ms for record in updates) / 1000
        distinct = {ScoreUpdate.from_json(record.value).feedback_id for record in updates}
        return Saturation(feedbacks, len(distinct), last - first, spent, broker)

    def _tell(self, number: signal.Signals) -> None:
        for process in [one for worker in self.workers for one in family(worker.process.pid)]:
            process.send_signal(number)

    def _cpu_seconds(self) -> float:
        return sum(cpu_seconds(worker.process.pid) for worker in self.workers)

    async def _score_ends(self) -> dict[int, int]:
        return await ends(self.settings, topics.SCORE_UPDATES)

    async def start_workers(self) -> float:
        """Start the workers; return the seconds until all of them are ready."""
        started, ports = time.monotonic(), [free_port() for _ in range(self._count)]
        for number, port in enumerate(ports):
            arguments = ["worker", "--bootstrap-servers", self.bootstrap, "--data-dir", str(self._data_dir)]
            variables = {**self._variables, "TIERSTREAM_STATE_DIR": str(self._folder / f"state-{number}")}
            self.workers.append(Command([*arguments, "--web-port", str(port)], variables, self._log(number)))
        self._processed = 0
        for number, (worker, port) in enumerate(zip(self.workers, ports, strict=True)):
            while not await asyncio.to_thread(answers, f"http://127.0.0.1:{port}/readyz"):
                if worker.process.poll() is not None or time.monotonic() > started + START_TIMEOUT_SECONDS:
                    log = self._log(number)
                    raise CommandFailedError(f"worker {number} is not ready: {last_line(log)} (log: {log})")
                await asyncio.sleep(0.1)
            self._say(f"worker is ready (process {worker.process.pid})")
        return time.monotonic() - started

    def _log(self, number: int) -> Path:
        return self._folder / f"worker-{number}.log"

    async def _wait(self) -> None:
        await wait_until_processed(self.settings, PROCESSING_TIMEOUT_SECONDS, self._say, LAG_EVERY_SECONDS)

    async def _publish_feedback(self, count: int) -> None:
        await self._publish(self.load.feedback(self._sent, count))
        self._sent += count
        self._broker_before = cpu_seconds(self.broker.process.pid)

    async def _publish(self, messages: Iterable[Outgoing]) -> None:
        waiting = iter(messages)
        async with publisher_of(self.settings) as publisher:
            while chunk := list(islice(waiting, PUBLISH_AT_ONCE)):
                await publisher.publish(chunk)
