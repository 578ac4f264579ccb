import numpy as np
import pytest

from schemas.settings import ScorerSettings
from trainers.scorer.progress import PlateauDecay, ProgressiveWindow
from trainers.scorer.samples import Samples


def test_plateau_halves_down_to_the_floor_and_counts_the_rest_apart():
    decay = PlateauDecay(ScorerSettings(plateau_patience=2))
    counted, rates = [], []
    for _ in range(13):
        counted.append(decay.add(1.0))
        rates.append(decay.learning_rate)
    assert rates[::2] == [1e-3, 5e-4, 2.5e-4, 1.25e-4, 1.25e-4, 1.25e-4, 1.25e-4]
    assert counted.count("decays") == 3
    assert counted.count("decays_at_floor") == 3


def test_the_learning_rate_stops_at_a_floor_that_is_no_half_of_it():
    decay = PlateauDecay(ScorerSettings(plateau_patience=1, learning_rate=1e-3, min_learning_rate=3e-4))
    counted = [decay.add(1.0) for _ in range(5)]
    assert counted == [None, "decays", "decays", "decays_at_floor", "decays_at_floor"]
    assert decay.learning_rate == 3e-4


def test_a_loss_below_the_last_one_is_no_improvement_on_the_best():
    decay = PlateauDecay(ScorerSettings(plateau_patience=3))
    assert [decay.add(loss) for loss in (1.0, 1.3, 1.2, 1.1)] == [None, None, None, "decays"]
    assert decay.best == 1.0


def test_improvement_keeps_the_learning_rate():
    decay = PlateauDecay(ScorerSettings(plateau_patience=1))
    assert [decay.add(1.0 - n / 100) for n in range(20)] == [None] * 20


def test_decay_goes_on_from_its_state():
    one = PlateauDecay(ScorerSettings(plateau_patience=2))
    for loss in (1.0, 1.0, 1.0, 2.0):
        one.add(loss)
    other = PlateauDecay(ScorerSettings(plateau_patience=2))
    other.restore(one.state())
    assert other.state() == one.state()
    assert other.learning_rate == 5e-4


def test_learning_rate_set_anew_takes_effect_on_a_restored_scorer():
    one = PlateauDecay(ScorerSettings(plateau_patience=1))
    for _ in range(3):
        one.add(1.0)
    other = PlateauDecay(ScorerSettings(learning_rate=2e-3))
    other.restore(one.state())
    assert other.learning_rate == 2e-3


def window_samples(rewards: list[float], intents: list[int]) -> Samples:
    count = len(rewards)
    marks = np.array(intents, np.uint64) << np.uint64(40)
    return Samples(
        np.zeros((count, 813), np.float32), np.array(rewards, np.float32), marks, marks, np.zeros(count, np.uint64)
    )


def test_window_counts_ordered_pairs_of_one_intent():
    window = ProgressiveWindow()
    assert window.figures(0.5) == {"progressive_accuracy": None, "progressive_loss": None, "progressive_pairs": 0}
    window.add(window_samples([1.0, -1.0], [1, 2]), np.array([0.5, -0.5], np.float32))
    assert window.figures(0.5)["progressive_pairs"] == 0
    # Two new bad samples of intent 1 against the good one with 0.5: one below it, one level.
    window.add(window_samples([-1.0], [1]), np.array([0.0], np.float32))
    window.add(window_samples([-1.0], [1]), np.array([0.5], np.float32))
    figures = window.figures(0.0)
    assert figures["progressive_pairs"] == 2
    assert figures["progressive_accuracy"] == 0.75
    assert figures["progressive_loss"] == pytest.approx((np.log1p(np.exp(-0.5)) + np.log(2)) / 2)


def test_window_forgets():
    window = ProgressiveWindow(size=2)
    for _ in range(5):
        window.add(window_samples([1.0, -1.0], [1, 1]), np.array([1.0, -1.0], np.float32))
    assert len(window.rows) == 2
