"""Adam on one flat vector: torch's own costs more in bookkeeping than in arithmetic here."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MEAN_DECAY, _SQUARE_DECAY, _EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, with its constants, in place."""

    def __init__(self, weights: Tensor, gradient: Tensor) -> None:
        """Work on `weights`, with what stands in `gradient` at each step; both stay the caller's."""
        self._weights, self._gradient = weights, gradient
        self._room = torch.empty_like(weights)
        self.mean, self.square = torch.zeros_like(weights), torch.zeros_like(weights)
        """Moving averages of the gradient and of its square."""
        self.steps = 0

    def step(self, learning_rate: float) -> None:
        """Take one step: `weights -= rate * mean / (1 - b1^t) / (sqrt(square / (1 - b2^t)) + epsilon)`."""
        self.steps += 1
        # The second bias correction is taken out of the root, into two numbers.
        root = math.sqrt(1.0 - _SQUARE_DECAY**self.steps)
        self.mean.lerp_(self._gradient, 1.0 - _MEAN_DECAY)
        self.square.mul_(_SQUARE_DECAY).addcmul_(self._gradient, self._gradient, value=1.0 - _SQUARE_DECAY)
        torch.sqrt(self.square, out=self._room).add_(_EPSILON * root)
        self._weights.addcdiv_(self.mean, self._room, value=-learning_rate * root / (1.0 - _MEAN_DECAY**self.steps))
