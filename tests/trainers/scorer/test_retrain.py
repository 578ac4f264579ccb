"""Retraining beside the scorer in use: judged, kept, promoted, and taken over by the next owner."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from schemas.errors import InputError
from schemas.records import ScorerEntry
from schemas.settings import ScorerSettings
from tests.trainers.scorer.making import SMALL, entry, queries, run
from trainers.scorer.checkpoint import CheckpointStore
from trainers.scorer.learner import OnlineLearner
from trainers.scorer.network import ArchitectureMismatchError
from trainers.scorer.retrain import Outcome, Retraining
from trainers.scorer.serving import newest_scorer
from trainers.versions import VersionStore

SETTINGS = SMALL.model_copy(update={"structured_scale": 3.0, "learning_rate": 5e-3, "replay_capacity": 500})
BIGGER = SETTINGS.model_copy(update={"rank": 8})


def tasteful(count: int) -> list[tuple[int, ScorerEntry]]:
    """Return feedback that likes items with a high first structured feature, on learned and held-out queries."""
    asked = itertools.cycle([*queries(False, 60), *queries(True, 40)])
    stream = []
    for number, query in zip(range(count), asked, strict=False):
        plain = entry(number, [0.0, 0.0], query=query)
        vector = np.frombuffer(plain.features, "<f4").copy()
        items = vector[384:].reshape(2, 429)
        items[:, 384:] = 0.0
        liked = number % 2
        items[liked, 384] = 1.0
        rewards = tuple(1.0 if place == liked else -1.0 for place in range(2))
        stream.append((number, replace(plain, features=vector.tobytes(), rewards=rewards)))
    return stream


STREAM = tasteful(400)


def in_use(data_dir: Path, learned: int, settings: ScorerSettings = SETTINGS) -> CheckpointStore:
    """Leave a checkpoint of a scorer that has seen the whole stream, and learned the first `learned` of it."""
    store = CheckpointStore(data_dir / "scorer", settings)
    learner = OnlineLearner(settings)
    run(learner, STREAM[:learned], 8)
    learner.next_offset = len(STREAM)
    store.save(learner.snapshot(store.claim_epoch(), 0))
    return store


def retrain(data_dir: Path, settings: ScorerSettings, margin: float = 0.0, promote: bool = False) -> Outcome:
    work = Retraining(data_dir, settings)
    for start in range(0, work.end, 64):
        work.learn(STREAM[start : start + 64])
    return work.finish(margin, promote)


def test_better_scorer_is_promoted_and_the_one_before_is_kept(tmp_path: Path) -> None:
    in_use(tmp_path, learned=0)
    outcome = retrain(tmp_path, SETTINGS)
    assert outcome.promoted
    assert outcome.reason.startswith("better: held-out accuracy")
    assert outcome.learned == 240
    assert outcome.gate.candidate is not None
    assert outcome.gate.candidate > 0.95
    registry = VersionStore(tmp_path)
    before, now = registry.in_use("scorer").history
    assert (before.version, now.version) == (now.previous, outcome.version)
    assert registry.get("scorer", outcome.version).metrics["end_offset"] == 400
    assert registry.rollback("scorer").version == before.version


def test_scorer_that_is_not_better_is_kept_as_rejected_and_changes_nothing(tmp_path: Path) -> None:
    in_use(tmp_path, learned=400)
    outcome = retrain(tmp_path, SETTINGS)
    assert not outcome.promoted
    assert outcome.reason.startswith("not better: held-out accuracy")
    registry = VersionStore(tmp_path)
    assert [(v.version, v.status) for v in registry.versions("scorer")] == [(outcome.version, "rejected")]
    assert registry.in_use("scorer").version is None
    assert newest_scorer(tmp_path).about.epoch == 1


def test_margin_decides(tmp_path: Path) -> None:
    in_use(tmp_path, learned=0)
    assert not retrain(tmp_path, SETTINGS, margin=0.9).promoted
    assert retrain(tmp_path, SETTINGS, margin=0.1).promoted


def test_other_architecture_is_promoted_when_asked_and_taken_over_from_its_offset(tmp_path: Path) -> None:
    old = in_use(tmp_path, learned=400)
    outcome = retrain(tmp_path, BIGGER, promote=True)
    assert outcome.promoted
    assert outcome.changed["rank"] == (4, 8)
    with pytest.raises(ArchitectureMismatchError, match=r"rank 8.*rank 4.*run `tierstream retrain`"):
        old.load_latest()
    store = CheckpointStore(tmp_path / "scorer", BIGGER)
    snapshot = store.load_latest()
    assert snapshot is not None
    assert (snapshot.epoch, snapshot.base, snapshot.next_offset) == (0, outcome.version, 400)
    assert store.durable_offset() == 400
    assert newest_scorer(tmp_path).about.rank == 8

    epoch = store.claim_epoch()
    store.save(snapshot.begun(epoch, 77))
    again = CheckpointStore(tmp_path / "scorer", BIGGER).load_latest()
    assert again is not None
    assert (again.epoch, again.base, again.log_offset, again.log_epoch) == (epoch, outcome.version, 77, epoch)
    assert store.new_version(outcome.version) is None
    VersionStore(tmp_path).rollback("scorer")
    assert store.new_version(outcome.version) is not None
    back = old.load_latest()
    assert back is not None
    assert (back.epoch, back.meta["architecture"]["rank"]) == (0, 4)


def test_learner_that_took_a_version_over_says_so_in_its_checkpoints(tmp_path: Path) -> None:
    in_use(tmp_path, learned=0)
    outcome = retrain(tmp_path, SETTINGS)
    snapshot = CheckpointStore(tmp_path / "scorer", SETTINGS).load_latest()
    assert snapshot is not None
    learner = OnlineLearner(SETTINGS)
    learner.restore(snapshot.begun(5, 9))
    assert learner.status()["version"] == outcome.version
    later = learner.snapshot(5, 12)
    assert (later.base, later.base_log, later.log_offset) == (outcome.version, (9, 5), 12)


def test_retraining_gives_the_same_scorer_again(tmp_path: Path) -> None:
    in_use(tmp_path, learned=400)
    assert retrain(tmp_path, BIGGER).version == retrain(tmp_path, BIGGER).version


def test_embedder_cannot_be_changed_by_retraining(tmp_path: Path) -> None:
    store = in_use(tmp_path, learned=0)
    other = SETTINGS.model_copy(update={"embedder": "supplied"})
    with pytest.raises(InputError, match="made with embedder hash, and the settings have supplied; set it back"):
        Retraining(tmp_path, other)
    with pytest.raises(ArchitectureMismatchError, match="set it back, or begin anew"):
        CheckpointStore(tmp_path / "scorer", other).load_latest()
    assert store.load_latest() is not None


def test_without_a_scorer_there_is_nothing_to_retrain_beside(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no scorer yet"):
        Retraining(tmp_path, SETTINGS)
