"""Retraining beside the scorer in use: judged, kept, promoted, and put into use by a record of the log."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from schemas.errors import ArchitectureMismatchError, InputError
from schemas.records import Configure, ScorerEntry
from schemas.settings import ScorerSettings
from tests.trainers.scorer.making import SMALL, begun, entry, queries, run
from trainers.prepare import is_held_out
from trainers.scorer.checkpoint import CheckpointStore, check_start, fitting_version, version_snapshot
from trainers.scorer.fold import ScorerFold
from trainers.scorer.log_settings import learning_settings
from trainers.scorer.retrain import Outcome, Retraining
from trainers.scorer.serving import newest_scorer
from trainers.versions import VersionStore

SETTINGS = SMALL.model_copy(update={"structured_scale": 3.0, "learning_rate": 5e-3, "replay_capacity": 500})
BIGGER = SETTINGS.model_copy(update={"rank": 8})


def tasteful(count: int) -> list[ScorerEntry]:
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
        stream.append(replace(plain, features=vector.tobytes(), rewards=rewards))
    return stream


STREAM = tasteful(400)
AT_A_TIME = 8
"""Entries in a record of the log, whose first one has the settings."""
END = 1 + len(STREAM) // AT_A_TIME


def in_use(data_dir: Path, learned: int, settings: ScorerSettings = SETTINGS) -> ScorerFold:
    """Leave a checkpoint of a scorer that has seen the whole stream, and learned the first `learned` of it."""
    fold = begun(settings)
    run(fold, STREAM[:learned], AT_A_TIME)
    fold.learner.next_offset = END
    CheckpointStore(data_dir / "scorer", settings).save(fold.snapshot())
    return fold


def retrain(data_dir: Path, settings: ScorerSettings, margin: float = 0.0, promote: bool = False) -> Outcome:
    work = Retraining(data_dir, settings)
    for offset in range(1, work.end):
        work.learn(offset, STREAM[(offset - 1) * AT_A_TIME : offset * AT_A_TIME])
    return work.finish(margin, promote)


def start_with(data_dir: Path, settings: ScorerSettings) -> None:
    """Look at the newest checkpoint as a scorer that starts does."""
    snapshot = CheckpointStore(data_dir / "scorer", settings).load()
    assert snapshot is not None
    check_start(snapshot, data_dir, settings)


def put_into_use(data_dir: Path, fold: ScorerFold, settings: ScorerSettings) -> ScorerFold:
    """Return the scorer after the record that tells of the version in use."""
    registry = VersionStore(data_dir)
    history = registry.in_use("scorer")
    control = Configure(learning_settings(settings), history.version, len(history.history))
    offset = fold.next_offset
    after = fold.configured(offset, control, lambda version: version_snapshot(registry, version))
    return after.arrive(offset)


def test_better_scorer_is_promoted_and_the_one_before_is_kept(tmp_path: Path) -> None:
    in_use(tmp_path, learned=0)
    outcome = retrain(tmp_path, SETTINGS)
    assert outcome.promoted
    assert outcome.reason.startswith("better: held-out accuracy")
    assert (outcome.learned, outcome.records) == (240, END)
    assert outcome.gate.candidate is not None
    assert outcome.gate.candidate > 0.95
    registry = VersionStore(tmp_path)
    before, now = registry.in_use("scorer").history
    assert (before.version, now.version) == (now.previous, outcome.version)
    assert registry.get(outcome.version).metrics["end_offset"] == END
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


def test_only_what_neither_scorer_learned_is_judged_on(tmp_path: Path) -> None:
    other = SETTINGS.model_copy(update={"validation_one_in": 4})
    in_use(tmp_path, learned=400)
    outcome = retrain(tmp_path, other)
    hashes = {entry.query_hash for entry in STREAM}
    by_old, by_new = ({h for h in hashes if is_held_out(h, s.validation_one_in)} for s in (SETTINGS, other))
    assert by_old - by_new
    assert by_new - by_old
    assert by_old & by_new
    assert outcome.gate.queries == len(by_old & by_new)


def test_margin_decides(tmp_path: Path) -> None:
    in_use(tmp_path, learned=0)
    assert not retrain(tmp_path, SETTINGS, margin=0.9).promoted
    assert retrain(tmp_path, SETTINGS, margin=0.05).promoted


def test_other_architecture_is_promoted_when_asked_and_goes_on_from_its_offset(tmp_path: Path) -> None:
    old = in_use(tmp_path, learned=400)
    with pytest.raises(ArchitectureMismatchError, match=r"rank 4.*rank 8.*run `tierstream retrain`"):
        start_with(tmp_path, BIGGER)
    outcome = retrain(tmp_path, BIGGER, promote=True)
    assert outcome.promoted
    assert outcome.changed["rank"] == (4, 8)
    start_with(tmp_path, BIGGER)  # as the version comes next
    start_with(tmp_path, SETTINGS)
    assert fitting_version(tmp_path, SETTINGS) is None
    assert fitting_version(tmp_path, BIGGER) == (outcome.version, 2)
    assert newest_scorer(tmp_path).about.rank == 8

    now = put_into_use(tmp_path, old, BIGGER)
    assert (now.epoch, now.base, now.changes, now.next_offset) == (2, outcome.version, 2, END + 1)
    CheckpointStore(tmp_path / "scorer", BIGGER).save(now.snapshot())
    about = newest_scorer(tmp_path).about
    assert (about.epoch, about.version, about.rank) == (2, outcome.version, 8)

    VersionStore(tmp_path).rollback("scorer")
    about = newest_scorer(tmp_path).about
    assert (about.version, about.rank) != (outcome.version, 8)
    back = put_into_use(tmp_path, now, SETTINGS)
    assert (back.epoch, back.changes, back.learner.settings.rank) == (3, 3, 4)
    assert back.learner.weights_hash() == old.learner.weights_hash()


def test_scorer_that_went_on_from_a_version_says_so_in_its_checkpoints(tmp_path: Path) -> None:
    old = in_use(tmp_path, learned=0)
    outcome = retrain(tmp_path, SETTINGS)
    fold = put_into_use(tmp_path, old, SETTINGS)
    assert fold.status()["version"] == outcome.version
    run(fold, [entry(5_000)], 1)
    store = CheckpointStore(tmp_path / "scorer", SETTINGS)
    store.save(fold.snapshot())
    later = store.load()
    assert later is not None
    assert (later.base, later.epoch, later.meta["changes"], later.next_offset) == (outcome.version, 2, 2, END + 2)
    about = newest_scorer(tmp_path).about
    assert (about.version, about.step) == (outcome.version, fold.learner.step)


def test_retraining_gives_the_same_scorer_again(tmp_path: Path) -> None:
    in_use(tmp_path, learned=400)
    assert retrain(tmp_path, BIGGER).version == retrain(tmp_path, BIGGER).version


def test_embedder_cannot_be_changed_by_retraining(tmp_path: Path) -> None:
    in_use(tmp_path, learned=0)
    other = SETTINGS.model_copy(update={"embedder": "supplied"})
    with pytest.raises(InputError, match="made with embedder hash, and the settings have supplied; set it back"):
        Retraining(tmp_path, other)
    with pytest.raises(ArchitectureMismatchError, match="set it back, or begin anew"):
        start_with(tmp_path, other)
    start_with(tmp_path, SETTINGS)


def test_without_a_scorer_there_is_nothing_to_retrain_beside(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no scorer yet"):
        Retraining(tmp_path, SETTINGS)
