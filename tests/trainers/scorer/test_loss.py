import math

import numpy as np
import pytest

from trainers.scorer.loss import ranking_loss


def places(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_loss_of_two_undecided_items_is_ln_2_and_half_the_squares():
    loss = ranking_loss(np.zeros(2), np.array([1.0, -1.0]), places(0), places(1), pointwise_weight=0.5)
    assert loss.ranking == pytest.approx(math.log(2))
    assert loss.pointwise == 1.0
    assert loss.value == pytest.approx(math.log(2) + 0.5)
    # Ranking: -sigmoid(0) = -1/2. Calibration: 0.5 * 2 * (0 - 1) / 2 = -1/2.
    assert loss.slope == pytest.approx([-1.0, 1.0])
    assert (loss.correct, loss.pairs) == (0.5, 1)


def test_loss_of_a_ranked_pair_follows_the_sigmoid():
    loss = ranking_loss(np.array([2.0, 0.0]), np.array([1.0, -1.0]), places(0), places(1), pointwise_weight=0.0)
    assert loss.value == pytest.approx(math.log1p(math.exp(-2.0)))
    assert loss.slope == pytest.approx([-1 / (1 + math.exp(2.0)), 1 / (1 + math.exp(2.0))])
    assert loss.correct == 1.0


def test_loss_without_pairs_only_calibrates():
    nothing = np.zeros(0, np.int64)
    loss = ranking_loss(np.array([0.5]), np.array([1.0]), nothing, nothing, pointwise_weight=2.0)
    assert loss.value == pytest.approx(0.5)
    assert loss.slope == pytest.approx([-2.0])
    assert loss.pairs == 0


def test_slope_agrees_with_finite_differences():
    rng = np.random.default_rng(3)
    scores, rewards = rng.normal(size=5), rng.choice([-1.0, 0.0, 1.0], size=5)
    better, worse = places(0, 0, 3, 4), places(1, 2, 2, 1)
    slope = ranking_loss(scores, rewards, better, worse, 0.7).slope
    for n in range(5):
        up, down = scores.copy(), scores.copy()
        up[n] += 1e-6
        down[n] -= 1e-6
        values = [ranking_loss(s, rewards, better, worse, 0.7).value for s in (up, down)]
        assert slope[n] == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-6)


def test_huge_gaps_do_not_overflow():
    loss = ranking_loss(np.array([1e4, -1e4]), np.array([-1.0, 1.0]), places(1), places(0), pointwise_weight=0.0)
    assert loss.value == pytest.approx(2e4)
    assert loss.slope == pytest.approx([1.0, -1.0])
