"""Folding the scorer's log once more, to see that it gives the checkpoint's weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from schemas.errors import InputError
from schemas.settings import Settings
from streams.kafka.options import broker_errors
from streams.state.scorer_log import LogReader
from streams.state.scorer_state import Progress, ScorerState
from trainers.scorer.checkpoint import CheckpointStore


@dataclass(frozen=True, slots=True)
class Verification:
    """A checkpoint beside what the log gives."""

    checkpoint: str
    """Hash of the checkpoint's weights."""
    replayed: str
    """Hash of the weights after the fold."""
    step: int
    """Optimizer updates up to the checkpoint."""
    records: int
    """Records of the log up to the checkpoint."""

    @property
    def agrees(self) -> bool:
        """Whether the weights are the same, bit for bit."""
        return self.checkpoint == self.replayed


async def verify_scorer(settings: Settings, progress: Progress) -> Verification:
    """Fold the log up to the newest checkpoint again.

    Raises:
        InputError: there is no checkpoint, or the topic no longer holds all that it was folded from.
        LogError: the log cannot be folded.
    """
    folder = Path(settings.data_dir) / "scorer"
    snapshot = CheckpointStore(folder, settings.scorer).load()
    if snapshot is None:
        raise InputError(f"{folder} holds no checkpoint yet", "let a worker learn first, or name its --data-dir")
    with TemporaryDirectory(prefix="tierstream-features-") as features, broker_errors(settings):
        state = ScorerState(settings, Path(features))
        async with LogReader(settings) as reader:
            await state.catch_up(reader, snapshot.next_offset, progress)
        state.features.close()
    if state.fold is None or state.next_offset != snapshot.next_offset:
        raise InputError(
            f"the log ends at offset {state.next_offset}, and the checkpoint was taken at {snapshot.next_offset}",
            "name the deployment that the data directory belongs to",
        )
    weights = str(snapshot.meta["weights_hash"])
    return Verification(weights, state.fold.learner.weights_hash(), snapshot.step, snapshot.next_offset)
