"""Ranking and calibration: the loss of a step, its slope by each score, and the pairs that it ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss with its parts."""

    value: float
    ranking: float
    """Mean softplus over the pairs; 0 without pairs."""
    pointwise: float
    """Mean squared error of scores to rewards."""
    correct: float
    """Pairs in the right order; a tie is half."""
    pairs: int
    slope: Doubles
    """Derivative of `value` by each score."""


def ranking_loss(scores: Doubles, rewards: Doubles, better: Longs, worse: Longs, pointwise_weight: float) -> Loss:
    """Return `mean softplus(worse - better) + pointwise_weight * mean (score - reward)^2` and its slope.

    The ranking term is Burges et al., "Learning to Rank using Gradient Descent", 2005. `better` and `worse` are
    the places of the pairs' items. For scores (0, 0), rewards (1, -1), the pair (0, 1) and weight 0.5 the value is
    ln 2 + 0.5 * 1, and the slope (-1/2 - 1/2, 1/2 + 1/2).
    """
    error = scores - rewards
    pointwise = float(error @ error) / len(scores)
    slope = error * (2.0 * pointwise_weight / len(scores))
    count = len(better)
    if not count:
        return Loss(pointwise_weight * pointwise, 0.0, pointwise, 0.0, 0, slope)
    gap = scores[better] - scores[worse]
    ranking = float(np.logaddexp(0.0, -gap).mean())
    pull = 1.0 / (1.0 + np.exp(np.clip(gap, -60.0, 60.0))) / count
    slope -= np.bincount(better, pull, len(scores))
    slope += np.bincount(worse, pull, len(scores))
    correct = float((gap > 0).sum() + 0.5 * (gap == 0).sum())
    return Loss(ranking + pointwise_weight * pointwise, ranking, pointwise, correct, count, slope)
