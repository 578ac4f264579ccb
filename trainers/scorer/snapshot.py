"""All state of a learner at one moment, as arrays and JSON: what a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainers.scorer.model import Arrays
from trainers.scorer.network import ArchitectureMismatchError, architecture
from trainers.scorer.progress import Counts
from trainers.scorer.reading import FORM
from trainers.scorer.samples import NAMES, SampleBuffer, Samples

if TYPE_CHECKING:
    from trainers.scorer.learner import OnlineLearner


OF_ENTRIES = ("embedder", "features", "inputs")
"""Parts of the architecture that the retained entries were made with: relearning from these cannot change them."""

_RETRAIN = "run `tierstream retrain`, which relearns it from the retained stream"
_BEGIN_ANEW = "begin anew with another --data-dir and topics.prefix, as the retained entries were made with the other"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A learner's state; nothing in it changes when the learner goes on."""

    arrays: Arrays
    """Weights, optimizer, replay and validation buffers, progressive window, applied origins."""
    meta: dict[str, Any]
    """Everything else, ready for JSON."""

    @property
    def epoch(self) -> int:
        """Ownership count of the writer."""
        return int(self.meta["epoch"])

    @property
    def step(self) -> int:
        """Steps in the scorer's life."""
        return int(self.meta["step"])

    @property
    def next_offset(self) -> int:
        """Input offset to go on from."""
        return int(self.meta["next_offset"])

    @property
    def log_offset(self) -> int:
        """Offset in the log of steps to read from."""
        return int(self.meta["log_offset"])

    @property
    def log_epoch(self) -> int:
        """Highest epoch claimed in the log before `log_offset`."""
        return int(self.meta["log_epoch"])

    @property
    def base(self) -> str | None:
        """The registry's version that learning went on from; None where it began with first weights."""
        version: str | None = self.meta.get("base")
        return version

    @property
    def base_log(self) -> tuple[int, int]:
        """Offset in the log of steps, and epoch, at which learning went on from `base`."""
        offset, epoch = self.meta.get("base_log", (0, 0))
        return int(offset), int(epoch)

    def as_version(self, version: str) -> Snapshot:
        """Return the snapshot as a version that nobody has gone on from yet: epoch 0."""
        return Snapshot(self.arrays, {**self.meta, "epoch": 0, "base": version})

    def begun(self, epoch: int, log_offset: int) -> Snapshot:
        """Return the snapshot as its new owner's: what the log of steps holds before `log_offset` is another's."""
        place = {"log_offset": log_offset, "log_epoch": epoch, "base_log": [log_offset, epoch]}
        return Snapshot(self.arrays, {**self.meta, "epoch": epoch, **place})

    def write_into(self, learner: OnlineLearner, wanted: dict[str, Any]) -> None:
        """Set a learner to this state.

        Raises:
            ArchitectureMismatchError: the learner is of another architecture.
        """
        check_architecture(self.meta["architecture"], wanted, "the snapshot")
        learner.model.restore(self.arrays)
        for buffer, name in ((learner.replay, "replay"), (learner.validation, "validation")):
            samples = Samples(*(self.arrays[f"{name}.{column}"] for column in NAMES))
            buffer.restore(samples, self.meta["positions"][name])
        learner.window.restore(self.arrays["window"])
        learner.decay.restore(self.meta["decay"])
        learner.life = Counts(**self.meta["counts"])
        learner.validated = dict(self.meta["validated"])
        learner.step, learner.next_offset = self.step, self.next_offset
        learner.log_offset, learner.log_epoch = self.log_offset, self.log_epoch
        learner.base, learner.base_log = self.base, self.base_log
        learner.origins.restore(self.arrays)


def from_learner_state(learner: OnlineLearner, epoch: int) -> Snapshot:
    """Return a copy of the learner's state."""
    arrays = learner.model.arrays()
    arrays["window"] = learner.window.rows.copy()
    arrays.update(learner.origins.arrays())
    for name, buffer in (("replay", learner.replay), ("validation", learner.validation)):
        arrays.update(_buffer_arrays(name, buffer))
    meta = {
        "form": FORM,
        "epoch": epoch,
        "step": learner.step,
        "next_offset": learner.next_offset,
        "log_offset": learner.log_offset,
        "log_epoch": learner.log_epoch,
        "base": learner.base,
        "base_log": list(learner.base_log),
        "seed": learner.settings.seed,
        "validation_one_in": learner.settings.validation_one_in,
        "architecture": architecture(learner.settings),
        "weights_hash": learner.weights_hash(),
        "positions": {"replay": learner.replay.position, "validation": learner.validation.position},
        "decay": learner.decay.state(),
        "counts": learner.life.as_dict(),
        "validated": dict(learner.validated),
    }
    return Snapshot(arrays, meta)


def _buffer_arrays(name: str, buffer: SampleBuffer) -> Arrays:
    samples = buffer.samples
    return {f"{name}.{column}": getattr(samples, column).copy() for column in NAMES}


def check_architecture(found: dict[str, Any], wanted: dict[str, Any], where: str) -> None:
    """Compare the architecture of a checkpoint with the settings'.

    Raises:
        ArchitectureMismatchError: names both, and the two remedies.
    """
    keys = [key for key in wanted if found.get(key) != wanted[key]]
    if not keys:
        return
    fixed = any(key in OF_ENTRIES for key in keys)
    there = ", ".join(f"{key} {found.get(key)}" for key in keys)
    set_to = ", ".join(f"{key} {wanted[key]}" for key in keys)
    raise ArchitectureMismatchError(
        f"{where} has {there}, but the settings have {set_to}: set it back, or {_BEGIN_ANEW if fixed else _RETRAIN}"
    )
