"""Learning the scorer's stream once more from the log of steps, to see that it gives the checkpoint's weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import InputError
from schemas.records import ScorerEntry, StepRecord
from schemas.settings import Settings
from streams import topology
from streams.entry_log import complete_entries, read_chunks
from streams.kafka_options import broker_errors
from trainers.scorer.checkpoint import CheckpointStore, version_snapshot
from trainers.scorer.learner import OnlineLearner
from trainers.scorer.snapshot import Snapshot
from trainers.scorer.steps import valid_steps
from trainers.versions import VersionStore

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
            (record.offset, StepRecord.from_json(record.value or b""))
            async for chunk in read_chunks(settings, topology.SCORER_STEPS, 0, None)
            for record in chunk
            if record.offset >= snapshot.base_log[0]
        ]
        steps = [step for step in valid_steps(records, snapshot.base_log[1]) if step.step <= snapshot.step]
        learner = await _relearn(settings, snapshot, steps, progress)
    weights = str(snapshot.meta["weights_hash"])
    return Verification(weights, learner.weights_hash(), snapshot.step, snapshot.next_offset)


async def _relearn(
    settings: Settings, snapshot: Snapshot, steps: list[StepRecord], progress: Progress
) -> OnlineLearner:
    learner = OnlineLearner(settings.scorer)
    if snapshot.base is not None:
        learner.restore(version_snapshot(VersionStore(settings.data_dir), snapshot.base, settings.scorer))
    steps = [step for step in steps if step.step > learner.step]
    first = learner.next_offset
    todo = list(reversed(steps))
    waiting: list[tuple[int, ScorerEntry]] = []
    async for entries in complete_entries(settings, snapshot.next_offset):
        for offset, entry in entries:
            if offset < first:
                continue
            waiting.append((offset, entry))
            if todo and offset == todo[-1].last_offset:
                learner.apply(waiting, [todo.pop()])
                waiting = []
        progress(entries[-1][0] + 1 if entries else 0, snapshot.next_offset)
    learner.apply(waiting, [])
    progress(snapshot.next_offset, snapshot.next_offset)
    if todo:
        raise InputError(
            f"the log has step {todo[-1].step}, and its entries up to offset {todo[-1].last_offset} are not there",
            "name the deployment that the data directory belongs to",
        )
    return learner
