"""The simulated control room as a test of ranking within one plan."""

from datetime import UTC, datetime

import numpy as np
import pytest

from benchmarks import scorer_room
from benchmarks.scorer_room import within_plan_accuracy
from schemas.settings import ScorerSettings
from streams.demo.room import simulate
from trainers.embedding import HashEmbedder
from trainers.scorer.learner import OnlineLearner


class Oracle:
    """Scores items by a rule of the test."""

    def __init__(self, sign: float) -> None:
        self.sign = sign
        self.worth: dict[str, dict[str, float]] = {}

    def score(self, entry):
        return np.array([self.sign * self.worth[entry.experience_id][item] for item in entry.item_ids])


def test_true_worths_rank_all_pairs_and_equal_scores_half_of_them():
    room = simulate(1, 20, datetime(2026, 1, 1, tzinfo=UTC))
    plans = [(one, scorer_room._entry(one, HashEmbedder(), 0, 0)) for one in room]
    for sign, expected in ((1.0, 1.0), (0.0, 0.5), (-1.0, 0.0)):
        oracle = Oracle(sign)
        oracle.worth = {one.experience.experience_id: dict(one.worth) for one in room}
        assert within_plan_accuracy(plans, oracle) == expected  # type: ignore[arg-type]


def test_scorer_finds_the_hidden_taste(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scorer_room, "POINTS", (0, 300))
    monkeypatch.setattr(scorer_room, "UNSEEN", 60)
    before, after = scorer_room.curve(3)
    assert after > before
    assert after > 0.75


def test_untaught_scorer_is_near_a_coin():
    room = simulate(2, 60, datetime(2026, 1, 1, tzinfo=UTC))
    plans = [(one, scorer_room._entry(one, HashEmbedder(), 0, 0)) for one in room]
    found = [within_plan_accuracy(plans, OnlineLearner(ScorerSettings(seed=seed))) for seed in range(6)]
    assert sum(found) / 6 == pytest.approx(0.5, abs=0.12)
