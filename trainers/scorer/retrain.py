"""A scorer relearned beside the one in use, judged, and put into the registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import InputError
from schemas.events import ModelVersion
from schemas.records import ScorerEntry
from schemas.settings import ScorerSettings
from trainers.prepare import is_held_out
from trainers.scorer.architecture import architecture
from trainers.scorer.entries import Use, use_of
from trainers.scorer.gate import Comparison, HeldOut
from trainers.scorer.kept import add_scorer, keep_in_use
from trainers.scorer.learner import OnlineLearner
from trainers.scorer.serving import FrozenScorer, checkpoint_in_use
from trainers.scorer.snapshot import OF_ENTRIES, Snapshot
from trainers.versions import VersionStore


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a retraining."""

    version: str
    """The candidate, kept in any case."""
    promoted: bool
    reason: str
    """Why it was promoted, or was not."""
    gate: Comparison
    records: int
    """Records of the scorer's log that it was relearned from."""
    learned: int
    """Feedbacks that it learned."""
    changed: dict[str, tuple[Any, Any]]
    """Architecture that differs, as (in use, candidate), by name."""
    event: ModelVersion | None
    """The change of the version in use."""


class Retraining:
    """Relearns a scorer from the retained stream up to where the one in use has learned, and judges both.

    Args:
        data_dir: holds the scorer in use.
        settings: of the candidate.

    Raises:
        InputError: there is no scorer in use, or the retained entries do not fit the settings.
    """

    def __init__(self, data_dir: Path | str, settings: ScorerSettings) -> None:
        self._data_dir, self._store = data_dir, VersionStore(data_dir)
        self._arrays, self._meta = checkpoint_in_use(data_dir)
        self._settings = settings
        found, wanted = self._meta["architecture"], architecture(settings)
        self.changed = {key: (found.get(key), wanted[key]) for key in wanted if found.get(key) != wanted[key]}
        if fixed := [key for key in OF_ENTRIES if key in self.changed]:
            there, here = self.changed[fixed[0]]
            raise InputError(
                f"the retained entries were made with {fixed[0]} {there}, and the settings have {here}",
                "set it back, or begin anew with another --data-dir and topics.prefix",
            )
        self.end: int = int(self._meta["next_offset"])
        """Offset in the scorer's log up to which is relearned."""
        # An update for each feedback, as the stream learns where feedback comes one by one.
        self._learner = OnlineLearner(settings.model_copy(update={"groups_per_step": 1}))
        self._held_out = HeldOut()

    def learn(self, offset: int, entries: Sequence[ScorerEntry]) -> None:
        """Take in the entries of the log's next record."""
        self._learner.apply(offset, entries, silent=True)
        theirs = int(self._meta.get("validation_one_in", self._settings.validation_one_in))
        for entry in entries:
            if use_of(entry, self._settings) is Use.HELD_OUT and is_held_out(entry.query_hash, theirs):
                self._held_out.add(entry)

    def finish(self, margin: float, promote_anyway: bool = False, keep_because: str | None = None) -> Outcome:
        """Judge, keep the candidate, and put it into use where it is better or was asked for.

        Args:
            margin: the gain's whole interval must lie above it.
            promote_anyway: whether to promote whatever the gate says.
            keep_because: why it is not put into use in any case, where there is a reason.

        Raises:
            OSError: the registry cannot be written; the scorer in use stays.
        """
        learner = self._learner
        learner.next_offset = self.end
        snapshot = Snapshot.of(learner)
        gate = self._held_out.compare(
            FrozenScorer(self._arrays, self._meta).scores, FrozenScorer(snapshot.arrays, snapshot.meta).scores
        )
        better = gate.better_by(margin)
        reason = _verdict(gate, margin)
        version = self._add(snapshot, "candidate" if better or promote_anyway else "rejected", gate, reason)
        event = None
        if keep_because is not None:
            reason = f"{reason}; {keep_because}"
        elif better or promote_anyway:
            words = reason if better else f"asked for with --promote ({reason})"
            before = keep_in_use(self._store, self._data_dir, self._settings)
            event = self._store.promote(version, words, instead_of=before)
            reason = words
        counts = learner.life
        return Outcome(version, event is not None, reason, gate, self.end, counts.groups_learned, self.changed, event)

    def _add(self, snapshot: Snapshot, status: str, gate: Comparison, reason: str) -> str:
        return add_scorer(
            self._store,
            snapshot.arrays,
            snapshot.meta,
            parent_version=self._meta.get("base"),
            status=status,
            reason=reason,
            metrics={
                "gate": gate.as_dict(),
                "end_offset": self.end,
                "step": snapshot.step,
                **snapshot.meta["validated"],
            },
            settings=self._settings.model_dump(mode="json"),
        )


def _verdict(gate: Comparison, margin: float) -> str:
    if gate.gain is None or gate.low is None or gate.high is None:
        return "not judged: no held-out feedback to compare on yet"
    figures = (
        f"held-out accuracy {gate.in_use:.3f} -> {gate.candidate:.3f}, gain {gate.gain:+.3f} "
        f"[{gate.low:+.3f}, {gate.high:+.3f}] over {gate.queries} queries"
    )
    beyond = f" by more than {margin:g}" if margin else ""
    return f"{'better' if gate.better_by(margin) else 'not better'}{beyond}: {figures}"
