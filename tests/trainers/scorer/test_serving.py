"""Serving: the same scores as the learner's, from files, without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import InputError
from schemas.events import Experience
from schemas.ranking import RankRequest
from schemas.records import FEATURES_PER_ITEM
from schemas.settings import ScorerSettings
from schemas.vectors import EMBEDDING_SIZE
from tests.trainers.scorer.making import SMALL, begun, entry, run
from trainers.scorer.checkpoint import CheckpointStore
from trainers.scorer.fold import ScorerFold
from trainers.scorer.ranking import embedder_of, rank, score_answer
from trainers.scorer.serving import FrozenScorer, newest_scorer


def learned(settings: ScorerSettings, count: int = 9) -> ScorerFold:
    fold = begun(settings)
    run(fold, [entry(n) for n in range(count)], 4)
    return fold


def frozen(fold: ScorerFold) -> FrozenScorer:
    snapshot = fold.snapshot()
    return FrozenScorer(snapshot.arrays, snapshot.meta)


@pytest.mark.parametrize("settings", [SMALL, ScorerSettings()], ids=["rank 4", "rank 32"])
@pytest.mark.parametrize("items", [1, 2, 40])
def test_scores_are_the_learners(settings: ScorerSettings, items: int) -> None:
    fold = learned(settings)
    scorer, new = frozen(fold), entry(100, [None] * items, kind="arrived")
    expected = fold.learner.score(new)
    np.testing.assert_allclose(scorer.scores(new.features), expected, rtol=2e-5, atol=2e-6)
    vector = np.frombuffer(new.features, "<f4")
    query, rows = vector[:EMBEDDING_SIZE], vector[EMBEDDING_SIZE:].reshape(-1, FEATURES_PER_ITEM)
    one_by_one = [scorer.score_one(query, row) for row in rows]
    np.testing.assert_allclose(one_by_one, expected, rtol=2e-5, atol=2e-6)


def test_newest_checkpoint_is_served_and_follows_learning(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "scorer", SMALL)
    with pytest.raises(InputError, match="holds no scorer yet"):
        newest_scorer(tmp_path)
    fold = learned(SMALL)
    for _ in range(2):
        store.save(fold.snapshot())
        about = newest_scorer(tmp_path).about
        assert (about.step, about.epoch, about.version) == (fold.learner.step, 1, None)
        run(fold, [entry(n) for n in range(20, 40)], 4)


def test_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "scorer", SMALL)
    fold = learned(SMALL)
    store.save(fold.snapshot())
    before = fold.learner.step
    run(fold, [entry(n) for n in range(20, 40)], 4)
    newest = store.save(fold.snapshot())
    newest.write_bytes(newest.read_bytes()[:-100])
    assert newest_scorer(tmp_path).about.step == before < fold.learner.step


def test_scorer_of_another_layout_is_refused() -> None:
    snapshot = learned(SMALL).snapshot()
    other = {**snapshot.meta, "architecture": {**snapshot.meta["architecture"], "features": "00"}}
    with pytest.raises(InputError, match="another layout of the structured features"):
        FrozenScorer(snapshot.arrays, other)


REQUEST = {
    "query": "show pump 3 pressure",
    "intent": {"type": "status", "domains": ["pumps"]},
    "candidates": [
        {"item_id": "a", "widget_type": "gauge", "text": "pressure of pump 3", "params": {"pump": 3}},
        {"item_id": "b", "widget_type": "table", "text": "all alarms"},
        {"item_id": "c", "text": "Pump 3 is at 4 bar."},
    ],
}


def test_candidate_has_the_score_of_an_answer_of_its_own() -> None:
    scorer = frozen(learned(SMALL))
    embedder = embedder_of(scorer, SMALL)
    ranked = rank(scorer, embedder, RankRequest.model_validate(REQUEST))
    assert sorted(item.score for item in ranked) == [item.score for item in reversed(ranked)]
    assert {item.item_id: item.item_type for item in ranked} == {"a": "widget", "b": "widget", "c": "voice"}
    alone = {
        "experience_id": "e",
        "timestamp": 1,
        "query": REQUEST["query"],
        "intent": REQUEST["intent"],
        "widget_plan": [{"widget_id": "w", "widget_type": "table", "text": "all alarms"}],
    }
    [item] = score_answer(scorer, embedder, Experience.model_validate(alone))
    assert item.score == pytest.approx(next(r.score for r in ranked if r.item_id == "b"), rel=1e-5)


def test_order_of_candidates_does_not_matter() -> None:
    scorer = frozen(learned(SMALL))
    turned = {**REQUEST, "candidates": list(reversed(REQUEST["candidates"]))}  # type: ignore[call-overload]
    one, other = (
        rank(scorer, embedder_of(scorer, SMALL), RankRequest.model_validate(request)) for request in (REQUEST, turned)
    )
    assert [item.item_id for item in one] == [item.item_id for item in other]


def test_serving_needs_no_torch() -> None:
    code = "import sys, trainers.scorer.ranking; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
