"""What each stage of the hot path costs in a loop of its own: no broker, the real agents, RocksDB below them.

`python -m benchmarks.stages`; the figures are CPU time of the process, which other work on the machine disturbs least.
"""

from __future__ import annotations

import asyncio
import gc
import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from aiokafka.structs import ConsumerRecord
from rich.console import Console
from rich.table import Table

from benchmarks.load import Load
from benchmarks.machine import machine
from schemas.config import load
from schemas.records import Configure, encode_log
from streams import topics
from streams.agents import Agents
from streams.kafka.publisher import Outgoing, Publisher, Receipt
from streams.topics import Role
from streams.transport.batch import RecordBatch
from streams.worker import app as app_module
from streams.worker.app import build_app
from trainers.scorer.log_settings import learning_settings

Process = Callable[[RecordBatch], Awaitable[None]]


class Shelf(Publisher):
    """Acknowledges at once and keeps what it is given, by topic and partition."""

    def __init__(self, client_options: Mapping[str, Any]) -> None:
        super().__init__(client_options)
        self.logs: defaultdict[tuple[str, int], list[Outgoing]] = defaultdict(list)
        self.bytes: Counter[str] = Counter()

    async def publish(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        """Keep the messages."""
        targets: dict[tuple[str, int], None] = {}
        for message in messages:
            target = message.topic, message.partition or 0
            targets[target] = None
            self.logs[target].append(message)
            self.bytes[message.topic] += len(message.value or b"")
        return [Receipt(topic, partition, len(self.logs[topic, partition]) - 1) for topic, partition in targets]

    def take(self, topic: str, partition: int, start: int) -> list[Outgoing]:
        """Return what was published from offset `start` on."""
        return self.logs[topic, partition][start:]


class Stages:
    """The roles' apps without a broker, publishing to one shelf."""

    def __init__(self, folder: Path) -> None:
        self.settings = load(None, {}, {"data_dir": str(folder)}).settings
        self.shelf = Shelf({})
        self._read: Counter[tuple[str, int]] = Counter()
        self._offsets: Counter[tuple[str, int]] = Counter()
        app_module.Publisher = lambda _: self.shelf  # type: ignore[assignment, attr-defined, misc]
        self.join, self.scorer, self.pairs = (self._build(role) for role in ("join", "scorer", "pairs"))

    def _build(self, role: Role) -> Agents:
        app = build_app(self.settings, role)
        app.finalize()
        return app.agents_of_ours

    async def begin(self) -> None:
        """Let the scorer's log begin with its settings, as a worker does."""
        control = encode_log(Configure(learning_settings(self.settings.scorer)))
        log = self.settings.topic(topics.SCORER_LOG)
        await self.shelf.publish([Outgoing(log, 0, None, control)])
        assert self.scorer.scorer is not None
        await self.pass_on(log, self.scorer.scorer.process)

    async def feed(self, topic: str, messages: Sequence[Outgoing], process: Process) -> float:
        """Let an agent process messages as batches of each partition; return the CPU seconds."""
        by_partition: defaultdict[int, list[Outgoing]] = defaultdict(list)
        for message in messages:
            by_partition[message.partition or 0].append(message)
        spent = 0.0
        for partition, its in sorted(by_partition.items()):
            size = self.settings.stream.batch_records
            for first in range(0, len(its), size):
                batch = self._batch(topic, partition, its[first : first + size])
                started = time.process_time()
                await process(batch)
                spent += time.process_time() - started
        return spent

    async def pass_on(self, topic: str, process: Process) -> float:
        """Let an agent process all that was published to its topic since the last call."""
        messages: list[Outgoing] = []
        for name, partition in list(self.shelf.logs):
            if name == topic:
                messages += self.shelf.take(name, partition, self._read[name, partition])
                self._read[name, partition] = len(self.shelf.logs[name, partition])
        return await self.feed(topic, messages, process)

    def _batch(self, topic: str, partition: int, messages: Sequence[Outgoing]) -> RecordBatch:
        now_ms = int(time.time() * 1000)
        records = []
        for message in messages:
            offset = self._offsets[topic, partition]
            self._offsets[topic, partition] += 1
            key, value = message.key, message.value
            records.append(ConsumerRecord(topic, partition, offset, now_ms, 1, key, value, None, -1, -1, ()))
        return RecordBatch(topic, partition, records)


async def measure(folder: Path, experiences: int, feedbacks: int) -> dict[str, float]:
    """Return the microseconds of CPU an event of each stage, and bytes published a feedback."""
    stages = Stages(folder)
    await stages.begin()
    join, scorer, pairs, topic = stages.join.join, stages.scorer.scorer, stages.pairs.pairs, stages.settings.topic
    assert join
    assert scorer
    assert pairs
    source = Load(stages.settings, experiences)
    arriving = list(source.experiences())
    judging = source.feedback(0, feedbacks)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    found = {
        "join an experience": await stages.feed(topic(topics.EXPERIENCES), arriving, join.process) / experiences,
        "score an experience": await stages.pass_on(topic(topics.SCORER_LOG), scorer.process) / experiences,
    }
    before = Counter(stages.shelf.bytes)
    found["join a feedback"] = await stages.feed(topic(topics.FEEDBACK), judging, join.process) / feedbacks
    found["learn a feedback"] = await stages.pass_on(topic(topics.SCORER_LOG), scorer.process) / feedbacks
    found["pair a feedback"] = await stages.pass_on(topic(topics.ANSWERS), pairs.process) / feedbacks
    found = {name: seconds * 1e6 for name, seconds in found.items()}
    for name, total in (stages.shelf.bytes - before).items():
        found[f"bytes to {name}"] = total / feedbacks
    return found


@click.command()
@click.option("--experiences", type=click.IntRange(1), default=20_000, show_default=True)
@click.option("--feedbacks", type=click.IntRange(1), default=40_000, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(experiences: int, feedbacks: int, as_json: bool) -> None:
    """Measure the stages and print what each costs.

    Example: python -m benchmarks.stages --experiences 2000 --feedbacks 4000
    """
    with tempfile.TemporaryDirectory(prefix="tierstream-", ignore_cleanup_errors=True) as folder:
        found = asyncio.run(measure(Path(folder), experiences, feedbacks))
    if as_json:
        click.echo(json.dumps({"machine": machine(), "stages": found}))
        return
    table = Table("stage", "µs of CPU, or bytes, an event", title="The hot path, stage by stage")
    for name, value in found.items():
        table.add_row(name, f"{value:,.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
