from math import tanh

import numpy as np
import pytest

from trainers.scorer.architecture import INPUTS
from trainers.scorer.linear import MEMORY, RATE, AveragedLinear

SCALE = np.full(INPUTS, 0.3, np.float32)


def rows_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, INPUTS), np.float32) * SCALE / 10


def test_first_sample_moves_the_score_by_the_step_size_times_its_squared_length():
    part, rows = AveragedLinear(SCALE), rows_of(1)
    part.learn(rows, np.array([1.0], np.float32))
    # tanh(0) is 0: one step of RATE times the reward along the unscaled inputs and the bias, and the average is that.
    squared = float(((rows / SCALE) ** 2).sum()) + 1.0
    assert part.scores(rows) == pytest.approx([RATE * squared], rel=1e-4)


def test_samples_that_come_together_are_learned_as_one_after_the_other():
    rows, rewards = rows_of(40), np.resize(np.array([1.0, -1.0, 0.5], np.float32), 40)
    weights = np.zeros(INPUTS + 1)
    for row, reward in zip(rows / SCALE, rewards, strict=True):
        inputs = np.append(row, 1.0)
        weights += RATE * (reward - tanh(weights @ inputs)) * inputs
    together = AveragedLinear(SCALE)
    together.learn(rows, rewards)
    assert together.latest == pytest.approx(weights, abs=1e-5)


def test_average_is_plain_at_first_and_forgets_later():
    part, rewards = AveragedLinear(SCALE), np.array([1.0], np.float32)
    latest = []
    for number in range(3):
        part.learn(rows_of(1, number), rewards)
        latest.append(part.latest.copy())
    assert part.mean == pytest.approx(np.mean(latest, axis=0), abs=1e-6)
    part.seen = 10**6
    before = part.mean.copy()
    part.learn(rows_of(1, 9), rewards)
    assert part.mean == pytest.approx(before + (1 - MEMORY) * (part.latest - before), abs=1e-6)


def test_nothing_to_learn_changes_nothing():
    part = AveragedLinear(SCALE)
    part.learn(rows_of(0), np.zeros(0, np.float32))
    assert (part.seen, part.mean.any()) == (0, False)
