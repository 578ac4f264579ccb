"""All state of a scorer at one moment, as arrays and JSON: what a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from schemas.errors import ArchitectureMismatchError
from trainers.scorer.architecture import architecture
from trainers.scorer.learner import OnlineLearner
from trainers.scorer.model import Arrays
from trainers.scorer.progress import Counts
from trainers.scorer.reading import FORM
from trainers.scorer.samples import NAMES, SampleBuffer, Samples

OF_ENTRIES = ("embedder", "features", "inputs")
"""Parts of the architecture that the retained entries were made with: relearning from these cannot change them."""

_RETRAIN = "run `tierstream retrain`, which relearns it from the retained stream"
_BEGIN_ANEW = "begin anew with another --data-dir and topics.prefix, as the retained entries were made with the other"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A scorer's state; nothing in it changes when the scorer goes on."""

    arrays: Arrays
    """Weights, optimizer, replay and validation buffers, progressive window, applied origins."""
    meta: dict[str, Any]
    """Everything else, ready for JSON."""

    @classmethod
    def of(cls, learner: OnlineLearner, **about: Any) -> Snapshot:
        """Return a copy of the learner's state, and what else is known about it; takes a few milliseconds at most."""
        arrays = learner.model.arrays()
        arrays["window"] = learner.window.rows.copy()
        arrays.update(learner.origins.arrays())
        for name, buffer in (("replay", learner.replay), ("validation", learner.validation)):
            arrays.update(_buffer_arrays(name, buffer))
        meta = {
            "form": FORM,
            "epoch": 0,
            "step": learner.step,
            "next_offset": learner.next_offset,
            "seed": learner.settings.seed,
            "validation_one_in": learner.settings.validation_one_in,
            "architecture": architecture(learner.settings),
            "weights_hash": learner.weights_hash(),
            "positions": {"replay": learner.replay.position, "validation": learner.validation.position},
            "decay": learner.decay.state(),
            "counts": learner.life.as_dict(),
            "validated": dict(learner.validated),
            **about,
        }
        return cls(arrays, meta)

    @property
    def epoch(self) -> int:
        """Count of the versions put into use; 0 in a version itself."""
        return int(self.meta["epoch"])

    @property
    def step(self) -> int:
        """Steps in the scorer's life."""
        return int(self.meta["step"])

    @property
    def next_offset(self) -> int:
        """Offset in the scorer's log to go on from."""
        return int(self.meta["next_offset"])

    @property
    def base(self) -> str | None:
        """The registry's version that learning went on from; None where it began with first weights."""
        version: str | None = self.meta.get("base")
        return version

    def write_into(self, learner: OnlineLearner) -> None:
        """Set a learner to this state.

        Raises:
            ArchitectureMismatchError: the learner is of another architecture.
        """
        check_architecture(self.meta["architecture"], architecture(learner.settings), "the snapshot")
        learner.model.restore(self.arrays)
        for buffer, name in ((learner.replay, "replay"), (learner.validation, "validation")):
            samples = Samples(*(self.arrays[f"{name}.{column}"] for column in NAMES))
            buffer.restore(samples, self.meta["positions"][name])
        learner.window.restore(self.arrays["window"])
        learner.decay.restore(self.meta["decay"])
        learner.life = Counts(**self.meta["counts"])
        learner.validated = dict(self.meta["validated"])
        learner.step, learner.next_offset = self.step, self.next_offset
        learner.origins.restore(self.arrays)


def _buffer_arrays(name: str, buffer: SampleBuffer) -> Arrays:
    samples = buffer.samples
    return {f"{name}.{column}": getattr(samples, column).copy() for column in NAMES}


def check_architecture(found: dict[str, Any], wanted: dict[str, Any], where: str) -> None:
    """Compare the architecture of what is there with the settings'.

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
