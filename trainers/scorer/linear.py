"""The scorer's linear part: logistic regression in one pass, weights averaged. It cannot remember single queries."""

from __future__ import annotations

from math import tanh

import numpy as np

from trainers.scorer.architecture import INPUTS, Floats
from trainers.scorer.network import product

RATE = 0.025
"""Step size for scores in units of reward: that of a log-odds, twice as large, is four times as much."""
MEMORY = 0.999
"""What a sample leaves of the average's past; the average is plain until that is longer than the stream."""


class AveragedLinear:
    """Scores `s = weights * inputs + bias`, by which the expected reward is `tanh(s)`; learns each sample once.

    Averaging: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992.
    """

    def __init__(self, scale: Floats) -> None:
        """Learn from rows of inputs that were multiplied by `scale`, as if they had not been."""
        self._unscale: Floats = np.reciprocal(scale)
        self.latest, self.mean = np.zeros(INPUTS + 1, np.float32), np.zeros(INPUTS + 1, np.float32)
        """Weights, an input each, and the bias: after the newest sample, and averaged, which is what scores."""
        self.seen = 0
        """Samples learned."""

    @property
    def weights(self) -> Floats:
        """The averaged weights for scaled rows."""
        weights: Floats = self.mean[:-1] * self._unscale
        return weights

    @property
    def bias(self) -> float:
        """The averaged bias."""
        return float(self.mean[-1])

    def scores(self, rows: Floats) -> Floats:
        """Return one score a scaled row."""
        scores: Floats = product(rows, self.weights) + self.mean[-1]
        return scores

    def learn(self, rows: Floats, rewards: Floats) -> None:
        """Take one gradient step a sample, one after the other, however many come together.

        Their products with each other are worked out at once: a step then is a change of the scores still to come.
        """
        count = len(rows)
        if not count:
            return
        inputs: Floats = rows * self._unscale
        scores = product(inputs, self.latest[:-1]) + self.latest[-1]
        alike = product(inputs, inputs.T)
        alike += 1.0
        steps = []
        for place, (row, reward) in enumerate(zip(alike, rewards.tolist(), strict=True)):
            steps.append(RATE * (reward - tanh(scores[place])))
            # The scores of those that were learned change too, unread: quicker than to leave them out.
            scores += row * np.float32(steps[-1])
        self.latest[:-1] += product(inputs.T, np.array(steps, np.float32))
        self.latest[-1] += sum(steps)
        self.seen += count
        self.mean += max(count / self.seen, 1.0 - MEMORY**count) * (self.latest - self.mean)
