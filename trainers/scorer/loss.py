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
    gaps: Doubles
    """Score of the better item minus that of the worse, a pair each."""
    slope: Doubles
    """Derivative of `value` by each score."""

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return len(self.gaps)

    @property
    def correct(self) -> float:
        """Pairs in the right order; a tie is half."""
        return float(np.count_nonzero(self.gaps > 0) + 0.5 * np.count_nonzero(self.gaps == 0))


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
        return Loss(pointwise_weight * pointwise, 0.0, pointwise, np.zeros(0), slope)
    gap = scores[better] - scores[worse]
    each = np.logaddexp(0.0, -gap)
    ranking = float(each.sum()) / count
    # The derivative of softplus(x) is exp(x - softplus(x)), which cannot overflow.
    pull = np.exp(-gap - each) / count
    slope -= np.bincount(better, pull, len(scores))
    slope += np.bincount(worse, pull, len(scores))
    return Loss(ranking + pointwise_weight * pointwise, ranking, pointwise, gap, slope)
