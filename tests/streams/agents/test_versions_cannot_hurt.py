"""No sequence of promotions, rollbacks, restarts, crashes and settings leaves nothing to serve, or to return to.

The pure decisions as a process makes them, on a log that is a list: starting, following the registry, checkpoints.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from schemas.errors import ArchitectureMismatchError, VersionError
from schemas.records import Configure
from tests.streams.agents.one_scorer import Deployment

RANKS = (4, 8)


def deployment(folder: Path) -> Deployment:
    """Return one of rank 4 that has learned something, with a checkpoint."""
    one = Deployment(folder, 4)
    one.feed()
    one.checkpoint()
    return one


def test_a_promoted_scorer_of_another_rank_that_crashes_after_it_was_rolled_back_starts_again(tmp_path: Path) -> None:
    """As `retrain --rank 8 --promote` said: set the rank, start again; then a crash before the next checkpoint."""
    one = deployment(tmp_path)
    assert one.retrain(8, promote=True, consent=True).promoted
    one.start(one.file)
    one.follow()
    one.rollback(consent=True)
    one.start(8)  # what `up` does, whose settings are those that it was started with
    assert one.scorer.learner.settings.rank == 8
    one.follow()
    assert "rank 4" in str(one.scorer.status()["version_refused"])
    one.start(one.file)
    one.follow()
    assert one.scorer.learner.settings.rank == 4


def test_a_scorer_of_another_rank_is_not_promoted_alone_and_the_live_one_can_be_returned_to(tmp_path: Path) -> None:
    one = deployment(tmp_path)
    kept = one.retrain(8, promote=False, consent=False)
    assert (kept.promoted, kept.reason.endswith("kept only")) == (False, True)
    with pytest.raises(VersionError, match=r"needs scorer.rank = 8, .* add --change-settings"):
        one.promote(kept.version)
    assert one.versions.in_use("scorer").history == ()
    learned = one.scorer.learner.weights_hash()
    one.promote(kept.version, consent=True)
    for rank in (4, 8):  # it crashes before anybody starts it anew, and after
        one.start(rank)
        one.follow()
    assert one.scorer.base == kept.version
    one.rollback(consent=True)
    one.start(one.file)
    one.follow()
    assert one.scorer.learner.weights_hash() == learned


def test_a_scorer_that_has_not_learned_yet_can_be_returned_to(tmp_path: Path) -> None:
    other = deployment(tmp_path / "other")
    version = other.retrain(4, promote=False, consent=False).version
    one = Deployment(tmp_path / "one", 4)
    shutil.copytree(other.versions.folder(version), one.versions.folder(version))
    first = one.scorer.learner.weights_hash()
    one.promote(version)
    one.follow()
    assert one.scorer.learner.weights_hash() != first
    one.rollback()
    one.follow()
    assert one.scorer.learner.weights_hash() == first


class AnySequence(RuleBasedStateMachine):
    """What operators, supervisors and accidents do, in any order."""

    @initialize(rank=st.sampled_from(RANKS))
    def begin(self, rank: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.one = Deployment(self.folder, rank)
        self.one.feed()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.all_the_way_back()
            shutil.rmtree(self.folder)

    @rule()
    def feed(self) -> None:
        self.one.feed()

    @rule()
    def follow(self) -> None:
        self.one.follow()

    @rule()
    def checkpoint(self) -> None:
        self.one.checkpoint()

    @rule()
    def crash_under_up(self) -> None:
        """The supervisor starts it again with the settings that it had: it has to go on."""
        self.one.start(self.one.worker)

    @rule()
    def restart(self) -> None:
        """The file's settings count: they are in effect, or nothing starts, and with those of before it does."""
        before = self.one.worker
        try:
            self.one.start(self.one.file)
        except ArchitectureMismatchError:
            self.one.start(before)

    @rule(rank=st.sampled_from(RANKS))
    def edit_the_settings(self, rank: int) -> None:
        self.one.file = rank

    @rule(rank=st.sampled_from(RANKS), promote=st.booleans(), consent=st.booleans())
    def retrain(self, rank: int, promote: bool, consent: bool) -> None:
        self.one.checkpoint()
        self.one.retrain(rank, promote, consent)

    @rule(data=st.data(), consent=st.booleans())
    def promote(self, data: st.DataObject, consent: bool) -> None:
        names = [record.version for record in self.one.versions.versions("scorer")]
        if names:
            version = data.draw(st.sampled_from(names))
            self.change(lambda: self.one.promote(version, consent), consent, version)

    @rule(consent=st.booleans())
    def rollback(self, consent: bool) -> None:
        if target := self.one.versions.one_before("scorer"):
            self.change(lambda: self.one.rollback(consent), consent, target)

    def change(self, command: Callable[[], object], consent: bool, version: str) -> None:
        fits, before = self.one.rank_of(version) == self.one.file, self.one.versions.in_use("scorer")
        if consent or fits:
            command()
            assert self.one.versions.in_use("scorer").version == version
        else:
            with pytest.raises(VersionError, match=r"needs scorer.rank = .* --change-settings"):
                command()
            assert self.one.versions.in_use("scorer") == before

    @invariant()
    def serves(self) -> None:
        """Whoever runs has what is configured for it, or has told the log to take it."""
        if hasattr(self, "one"):
            told = self.one.log[self.one.scorer.next_offset :]
            due = [record.settings["rank"] for record in told if isinstance(record, Configure)]
            assert [self.one.scorer.learner.settings.rank, *due][-1] == self.one.worker

    @invariant()
    def there_is_a_way_back(self) -> None:
        if hasattr(self, "one") and self.one.versions.in_use("scorer").history:
            assert self.one.versions.one_before("scorer") is not None or len(self.rolled_back()) > 0

    def rolled_back(self) -> list[str]:
        return [one.version for one in self.one.versions.in_use("scorer").history if one.action == "rolled back"]

    def all_the_way_back(self) -> None:
        """Each rollback can be taken into use, down to what served before the first promotion."""
        while self.one.versions.one_before("scorer"):
            target = self.one.rollback(consent=True)
            self.one.start(self.one.file)
            self.one.follow()
            assert (self.one.scorer.base, self.one.scorer.learner.settings.rank) == (target, self.one.rank_of(target))


AnySequence.TestCase.settings = profile(max_examples=30, stateful_step_count=12, deadline=None)
TestAnySequence = AnySequence.TestCase
