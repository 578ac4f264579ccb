"""The scorer as a fold over its log: equal records give equal state, bit for bit (same processor type, one thread)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from schemas.errors import ArchitectureMismatchError
from schemas.records import Configure, Scored, ScorerEntry
from trainers.scorer.architecture import architecture
from trainers.scorer.learner import OnlineLearner
from trainers.scorer.log_settings import FEATURES, settings_in
from trainers.scorer.snapshot import Snapshot, check_architecture


class ScorerFold:
    """The scorer after the records of its log up to `next_offset`.

    Args:
        learning: settings of the log, as `learning_settings` returns them.
    """

    def __init__(self, learning: dict[str, Any]) -> None:
        self.learning = learning
        self.learner = OnlineLearner(settings_in(learning))
        self.epoch = 1
        """Versions put into use so far, and one: with the step it only grows."""
        self.base: str | None = None
        """The registry's version that learning went on from."""
        self.changes = 0
        """Which change of the registry's version in use the log has followed; 0 before the first."""
        self.paused_since: float | None = None
        """Epoch seconds; while learning is paused, the log is only looked at."""
        self.refused: tuple[str, str] | None = None
        """The version that was to be put into use and does not fit, and why."""

    @property
    def next_offset(self) -> int:
        """Offset after the last record taken."""
        return self.learner.next_offset

    def apply(self, offset: int, entries: Sequence[ScorerEntry], *, silent: bool = False) -> list[Scored]:
        """Take what the join decided; see `OnlineLearner.apply`."""
        return self.learner.apply(offset, entries, silent=silent)

    def pause(self, offset: int, since: float | None) -> None:
        """Take a record that says that learning is paused since then, or goes on."""
        self.paused_since = since if since is None or self.paused_since is None else self.paused_since
        self.learner.next_offset = offset + 1

    def configured(self, offset: int, control: Configure, load: Callable[[str], Snapshot]) -> ScorerFold:
        """Return the scorer as it goes on after a `Configure` record.

        Where that puts a version into use, its learner stands at the version's `next_offset`: it is to be given the
        entries from there to the record by `relearn`, and the caller then calls `arrive`.

        Args:
            offset: of the record.
            control: the record.
            load: returns a version's snapshot.

        Raises:
            VersionError: the version is not as it was added.
        """
        wanted = architecture_in(control.settings)
        # One that did not fit comes into use with the settings that it fits, without another change of the registry.
        was_refused = self.refused is not None and self.refused[0] == control.version
        version = control.version if control.change > self.changes or was_refused else None
        fold = ScorerFold(control.settings)
        fold.base, fold.epoch, fold.paused_since = self.base, self.epoch, self.paused_since
        fold.learner.process = self.learner.process
        fold.changes = max(self.changes, control.change)
        if version is not None:
            snapshot = load(version)
            try:
                check_architecture(snapshot.meta["architecture"], wanted, f"version {version}")
            except ArchitectureMismatchError as error:
                self.refused, self.changes = (version, str(error)), fold.changes
                return self.arrive(offset)
            snapshot.write_into(fold.learner)
            fold.base, fold.epoch = version, max(self.epoch + 1, control.epoch)
            return fold
        if architecture_in(self.learning) != wanted:
            # Of a scorer that has learned only a version can change it: who has such settings is told so, and stops.
            return (self if self.has_learned else fold).arrive(offset)
        fold.refused = self.refused
        Snapshot.of(self.learner).write_into(fold.learner)
        return fold.arrive(offset)

    def relearn(self, offset: int, entries: Sequence[ScorerEntry]) -> None:
        """Take entries of a record that the version in use had not seen; those that it had are no repetitions."""
        counts = self.learner.life, self.learner.process
        known = [count.duplicates for count in counts]
        self.learner.apply(offset, entries, silent=True)
        for count, duplicates in zip(counts, known, strict=True):
            count.duplicates = duplicates

    def arrive(self, offset: int) -> ScorerFold:
        """Note that all up to and with the record at `offset` is taken."""
        self.learner.next_offset = offset + 1
        return self

    @property
    def has_learned(self) -> bool:
        """Whether any entry was taken, so that another architecture would lose something."""
        counts = self.learner.life
        return bool(counts.groups_learned or counts.groups_held_out or counts.arrived_scored)

    def snapshot(self) -> Snapshot:
        """Return a copy of all state, for `CheckpointStore.save`."""
        return Snapshot.of(
            self.learner,
            learning=self.learning,
            epoch=self.epoch,
            base=self.base,
            changes=self.changes,
            paused_since=self.paused_since,
            refused=self.refused,
        )

    @classmethod
    def restored(cls, snapshot: Snapshot) -> ScorerFold:
        """Return the scorer that a checkpoint was taken of."""
        meta = snapshot.meta
        fold = cls(meta["learning"])
        snapshot.write_into(fold.learner)
        fold.epoch, fold.base, fold.changes = snapshot.epoch, snapshot.base, int(meta["changes"])
        fold.paused_since = meta["paused_since"]
        fold.refused = None if meta["refused"] is None else (meta["refused"][0], meta["refused"][1])
        return fold

    def status(self) -> dict[str, Any]:
        """Return all figures, ready for JSON."""
        refused = None if self.refused is None else dict([self.refused])
        return {"epoch": self.epoch, "version": self.base, "version_refused": refused, **self.learner.status()}


def architecture_in(learning: dict[str, Any]) -> dict[str, Any]:
    """Return the architecture that settings of the log ask for."""
    return {**architecture(settings_in(learning)), FEATURES: learning[FEATURES]}
