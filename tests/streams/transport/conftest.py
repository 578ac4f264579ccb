"""Topics, records and worker processes for the transport's live tests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

WORKER = Path(__file__).with_name("record_worker.py")
WAIT_SECONDS = 60.0

Seen = tuple[str, int, int]
"""Topic, partition, offset."""


class Bench:
    """A few topics of this test's own on the broker, and its worker processes."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.bootstrap = bootstrap
        self.folder = folder
        self.name = f"t{uuid.uuid4().hex[:8]}"
        self.topics: list[str] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self.produced: Counter[tuple[str, int]] = Counter()
        self.output = folder / "seen.txt"
        self.output.touch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()

    def create(self, *names: str, partitions: int = 2, **configs: str) -> None:
        self.topics += [f"{self.name}-{name}" for name in names]

        async def run() -> None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            await admin.start()
            new = [NewTopic(f"{self.name}-{n}", partitions, 1, topic_configs=configs) for n in names]
            await admin.create_topics(new)
            await admin.close()

        asyncio.run(run())

    def produce(self, count: int, size: int = 40, **options: Any) -> None:
        """Publish `count` records in all to every topic and partition in turn."""

        async def run() -> None:
            producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all", **options)
            await producer.start()
            if "transactional_id" in options:
                await producer.begin_transaction()
            targets = [(topic, partition) for topic in self.topics for partition in range(2)]
            for number in range(count):
                topic, partition = targets[number % len(targets)]
                await producer.send(topic, str(number).encode().ljust(size, b"."), partition=partition)
            if "transactional_id" in options:
                await producer.commit_transaction()
            await producer.stop()

        asyncio.run(run())
        targets = [(topic, partition) for topic in self.topics for partition in range(2)]
        self.produced.update(targets[number % len(targets)] for number in range(count))

    def start(self, **spec: Any) -> subprocess.Popen[bytes]:
        datadir = self.folder / f"worker-{len(self.workers)}"
        defaults = {
            "bootstrap": self.bootstrap,
            "group": self.name,
            "topics": self.topics,
            "output": str(self.output),
            "datadir": str(datadir),
        }
        command = [sys.executable, str(WORKER), json.dumps(defaults | spec)]
        with (self.folder / f"worker-{len(self.workers)}.log").open("wb") as log:
            worker = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONWARNINGS": "ignore"})
        self.workers.append(worker)
        return worker

    def stop(self, worker: subprocess.Popen[bytes]) -> None:
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)

    def seen(self) -> Counter[Seen]:
        rows = (line.split() for line in self.output.read_text().splitlines())
        return Counter((row[0], int(row[1]), int(row[2])) for row in rows if len(row) >= 4)

    def wait(self, what: str, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not done():
            if time.monotonic() > deadline:
                logs = "\n".join(p.read_text()[-3000:] for p in sorted(self.folder.glob("worker-*.log")))
                pytest.fail(f"not in {WAIT_SECONDS} s: {what}\n{logs}")
            time.sleep(0.05)

    def wait_for_records(self, count: int) -> None:
        self.wait(f"{count} records seen", lambda: len(self.seen()) >= count)

    def offsets(self) -> dict[tuple[str, int], tuple[int, int]]:
        """Return committed offset (-1 for none) and end of each partition.

        The lite broker reports ends too low.
        """

        async def run() -> dict[tuple[str, int], tuple[int, int]]:
            consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=self.name, enable_auto_commit=False)
            await consumer.start()
            tps = [TopicPartition(topic, partition) for topic in self.topics for partition in range(2)]
            ends = await consumer.end_offsets(tps)
            result = {}
            for tp in tps:
                committed = await consumer.committed(tp)
                result[tp.topic, tp.partition] = (
                    -1 if committed is None else committed,
                    max(ends[tp], self.produced[tp.topic, tp.partition]),
                )
            await consumer.stop()
            return result

        return asyncio.run(run())

    def everything_committed(self) -> bool:
        return all(committed == end for committed, end in self.offsets().values())


@pytest.fixture
def bench(bootstrap: str, tmp_path: Path) -> Iterator[Bench]:
    with Bench(bootstrap, tmp_path) as bench:
        yield bench


@pytest.fixture
def lite_bench(lite_broker: Any, tmp_path: Path) -> Iterator[Bench]:
    with Bench(lite_broker.bootstrap, tmp_path) as bench:
        yield bench
