"""Learning the scorer's stream once more from the log of steps, to see that it gives the checkpoint's weights."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.errors import InputError
from schemas.records import ScorerEntry, StepRecord
from schemas.settings import Settings
from streams import topology
from streams.kafka_options import broker_errors, client_options
from trainers.scorer.checkpoint import CheckpointStore
from trainers.scorer.learner import OnlineLearner
from trainers.scorer.snapshot import Snapshot
from trainers.scorer.steps import valid_steps

Progress = Callable[[int, int], None]
"""Told how many entries are done, of how many."""


@dataclass(frozen=True, slots=True)
class Verification:
    """A checkpoint beside what its log of steps gives."""

    checkpoint: str
    """Hash of the checkpoint's weights."""
    replayed: str
    """Hash of the weights after the replay."""
    step: int
    """Optimizer updates up to the checkpoint."""
    entries: int
    """Scorer entries up to the checkpoint."""

    @property
    def agrees(self) -> bool:
        """Whether the weights are the same, bit for bit."""
        return self.checkpoint == self.replayed


async def verify_scorer(settings: Settings, progress: Progress) -> Verification:
    """Learn everything up to the newest checkpoint again.

    Raises:
        InputError: there is no checkpoint, or the topics no longer hold all that it learned from.
        ArchitectureMismatchError: the checkpoint is of another architecture than the settings.
    """
    folder = Path(settings.data_dir) / "scorer"
    snapshot = CheckpointStore(folder, settings.scorer).load_latest()
    if snapshot is None:
        raise InputError(f"{folder} holds no checkpoint yet", "let a worker learn first, or name its --data-dir")
    with broker_errors(settings):
        records = [
            (offset, StepRecord.from_json(value))
            async for offset, value in _records(settings, topology.SCORER_STEPS, None)
        ]
        steps = [step for step in valid_steps(records) if step.step <= snapshot.step]
        learner = await _relearn(settings, snapshot, steps, progress)
    weights = str(snapshot.meta["weights_hash"])
    return Verification(weights, learner.weights_hash(), snapshot.step, snapshot.next_offset)


async def _relearn(
    settings: Settings, snapshot: Snapshot, steps: list[StepRecord], progress: Progress
) -> OnlineLearner:
    learner = OnlineLearner(settings.scorer)
    todo = list(reversed(steps))
    waiting: list[tuple[int, ScorerEntry]] = []
    async for offset, value in _records(settings, topology.SCORER_ENTRIES, snapshot.next_offset):
        try:
            waiting.append((offset, ScorerEntry.decode(value)))
        except (ValueError, KeyError, TypeError):
            continue  # the worker has set it aside, too
        if todo and offset == todo[-1].last_offset:
            learner.apply(waiting, [todo.pop()])
            waiting = []
            progress(offset + 1, snapshot.next_offset)
    learner.apply(waiting, [])
    progress(snapshot.next_offset, snapshot.next_offset)
    if todo:
        raise InputError(
            f"the log has step {todo[-1].step}, and its entries up to offset {todo[-1].last_offset} are not there",
            "name the deployment that the data directory belongs to",
        )
    return learner


async def _records(settings: Settings, name: str, end: int | None) -> AsyncIterator[tuple[int, bytes]]:
    """Yield a one-partition topic's records from its first offset, 0, up to `end`, or to where it ends now."""
    partition = TopicPartition(settings.topic(name), 0)
    async with AIOKafkaConsumer(
        enable_auto_commit=False, auto_offset_reset="earliest", **client_options(settings)
    ) as consumer:
        consumer.assign([partition])
        first = (await consumer.beginning_offsets([partition]))[partition]
        if first > 0:
            raise InputError(
                f"{partition.topic} starts at offset {first}: what was before is gone",
                "a replay needs them all: keep topics.retention at forever",
            )
        position = 0
        while end is None or position < end:
            fetched = (await consumer.getmany(partition, timeout_ms=1000)).get(partition, [])
            for record in fetched:
                if end is None or record.offset < end:
                    yield record.offset, record.value or b""
                position = record.offset + 1
            # The high watermark comes with a fetch; the end that ListOffsets tells can fall short on the lite broker.
            if not fetched and position >= (consumer.highwater(partition) or 0):
                return
