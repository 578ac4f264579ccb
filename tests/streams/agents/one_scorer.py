"""A scorer's deployment for tests of versions: registry, checkpoints, settings file, and a log that is a list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from schemas.errors import TierstreamError
from schemas.records import Configure, Joined, LogRecord
from schemas.settings import Settings
from streams.agents.scorer_control import ScorerControl
from tests.trainers.scorer.making import SMALL, entry
from trainers import promotion
from trainers.scorer.checkpoint import CheckpointStore, check_start, version_snapshot
from trainers.scorer.fold import ScorerFold
from trainers.scorer.log_settings import learning_settings
from trainers.scorer.retrain import Outcome, Retraining
from trainers.versions import VersionStore


class Deployment:
    """A data directory, a log, a settings file, and one scorer's process with the settings that it was started with."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder = folder
        self.file = rank
        """What the settings file says, which commands and new processes read."""
        self.worker = rank
        self.versions = VersionStore(folder)
        self.log: list[LogRecord] = [Configure(learning_settings(self.settings(rank).scorer))]
        self.fed = 0
        self.fold: ScorerFold | None = None
        self.start(rank)

    def settings(self, rank: int) -> Settings:
        values = {**SMALL.model_dump(), "rank": rank}
        return Settings.model_validate({"data_dir": str(self.folder), "scorer": values})

    # The process

    def start(self, rank: int) -> None:
        """Start a scorer as `ScorerAgent` does, and become active.

        Raises:
            TierstreamError: it refuses to; nothing has changed.
        """
        scorer = self.settings(rank).scorer
        snapshot = CheckpointStore(self.folder / "scorer", scorer).load()
        if snapshot is not None:
            check_start(snapshot, self.folder, scorer)
        before, self.fold = self.fold, None if snapshot is None else ScorerFold.restored(snapshot)
        try:
            self.catch_up()
            self.control = ScorerControl(self.settings(rank), cast(Any, self._state()))
            self.write_due()
        except TierstreamError:
            self.fold = before
            raise
        self.worker = rank

    def _state(self) -> SimpleNamespace:
        return SimpleNamespace(fold=self.fold, versions=self.versions, load_version=self._load)

    def _load(self, version: str) -> Any:
        return version_snapshot(self.versions, version)

    def write_due(self) -> None:
        self.control._state = cast(Any, self._state())
        control = self.control.due()
        if control is not None and control != self.control._written:
            self.log.append(control)
            self.control._written = control

    def catch_up(self) -> None:
        """Take what the log has."""
        for offset in range(0 if self.fold is None else self.fold.next_offset, len(self.log)):
            record = self.log[offset]
            if isinstance(record, Joined):
                self.scorer.apply(offset, record.entries)
            elif self.fold is None:
                assert isinstance(record, Configure)
                self.fold = ScorerFold(record.settings).arrive(offset)
            else:
                assert isinstance(record, Configure)
                fold = self.fold.configured(offset, record, self._load)
                for missed in range(fold.next_offset, offset):
                    if isinstance(known := self.log[missed], Joined):
                        fold.relearn(missed, known.entries)
                self.fold = fold.arrive(offset)

    @property
    def scorer(self) -> ScorerFold:
        assert self.fold is not None
        return self.fold

    def feed(self) -> None:
        self.fed += 1
        self.log.append(Joined((entry(self.fed, (1.0, -1.0)),)))
        self.catch_up()

    def follow(self) -> None:
        self.write_due()
        self.catch_up()

    def checkpoint(self) -> None:
        settings = self.settings(self.worker).scorer
        CheckpointStore(self.folder / "scorer", settings).save(self.scorer.snapshot())

    # The commands, with `--change-settings` or without

    def retrain(self, rank: int, promote: bool, consent: bool) -> Outcome:
        other = {} if rank == self.file else {"scorer.rank": rank}
        work = Retraining(self.folder, self.settings(rank).scorer)
        for offset, record in enumerate(self.log[: work.end]):
            if isinstance(record, Joined):
                work.learn(offset, record.entries)
        outcome = work.finish(0.0, promote, "kept only" if other and not consent else None)
        if outcome.promoted:
            self.file = rank
        return outcome

    def promote(self, version: str, consent: bool = False) -> None:
        self._change(version, consent, lambda agreed: promotion.promote(self.settings(self.file), version, "r", agreed))

    def rollback(self, consent: bool = False, to: str | None = None) -> str:
        target = promotion.rollback_target(self.settings(self.file), "scorer", to)
        self._change(
            target, consent, lambda agreed: promotion.rollback(self.settings(self.file), "scorer", target, "", agreed)
        )
        return target

    def _change(self, version: str, consent: bool, change: Callable[[dict[str, Any]], object]) -> None:
        needed = promotion.settings_needed(self.settings(self.file), version)
        change(needed if consent else {})
        self.file = needed.get("scorer.rank", self.file)

    def rank_of(self, version: str) -> int:
        return int(version_snapshot(self.versions, version).meta["architecture"]["rank"])
