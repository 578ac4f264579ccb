"""Adam on one flat vector, as torch's fused optimizer takes it, without that class's bookkeeping.

The class costs several times its arithmetic at this size. A test compares the two, bit for bit: the operation that
both call is torch's own affair, and an upgrade that changes it has to fail there.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Adam:
    """Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, with its constants, in place."""

    def __init__(self, weights: Tensor, gradient: Tensor) -> None:
        """Work on `weights`, with what stands in `gradient` at each step; both stay the caller's."""
        self._weights, self._gradient = weights, gradient
        self.mean, self.square, self.steps = torch.zeros_like(weights), torch.zeros_like(weights), torch.zeros(())
        """Moving averages of the gradient and of its square, and the number of steps taken."""

    def step(self, learning_rate: float) -> None:
        """Take one step: `weights -= rate * mean / (1 - 0.9^t) / (sqrt(square / (1 - 0.999^t)) + 1e-8)`."""
        self.steps += 1
        torch._fused_adam_(
            [self._weights],
            [self._gradient],
            [self.mean],
            [self.square],
            [],
            [self.steps],
            lr=learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )
