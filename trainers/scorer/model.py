"""The weights with their optimizer: scores rows, takes one optimizer update at a time, and is saved as arrays."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from schemas.settings import ScorerSettings
from trainers.scorer.adam import Adam
from trainers.scorer.loss import Loss, ranking_loss
from trainers.scorer.network import Evaluator, build_network, parameter_count
from trainers.scorer.samples import Floats, Longs, Samples

Arrays = dict[str, npt.NDArray[Any]]

_MOMENTS = ("mean", "square")

MAX_LOSS = 1e6
"""A loss beyond this has left the rails: its gradient would overflow."""


class ScorerModel:
    """Network and Adam, on one thread: the same updates give the same weights, bit for bit."""

    def __init__(self, settings: ScorerSettings) -> None:
        torch.set_num_threads(1)
        self._settings = settings
        self._network = build_network(settings)
        self._evaluator = Evaluator(self._network)
        self._adam = Adam(self._evaluator.weights, self._evaluator.gradient)

    @property
    def parameters(self) -> int:
        """Number of trainable values, read from the network."""
        return parameter_count(self._network)

    def scores(self, rows: Floats) -> Floats:
        """Return one score a row of 813 scaled inputs."""
        return self._evaluator.forward(rows)[2]

    def loss(self, samples: Samples, better: Longs, worse: Longs) -> Loss:
        """Return the loss without learning."""
        return self._loss(self.scores(samples.rows), samples, better, worse)

    def update(self, samples: Samples, better: Longs, worse: Longs, learning_rate: float) -> tuple[bool, Floats]:
        """Take one optimizer update.

        Returns:
            Whether it was taken: not where the loss is not finite, and the weights stay as they were; and the scores
            before it.
        """
        low, active, scores = self._evaluator.forward(samples.rows)
        loss = self._loss(scores, samples, better, worse)
        if not loss.value <= MAX_LOSS:
            return False, scores
        self._evaluator.backward(samples.rows, low, active, loss.slope.astype(np.float32))
        self._adam.step(learning_rate)
        return True, scores

    def weights_hash(self) -> str:
        """Return 32 hex digits of BLAKE2b of all weights."""
        return blake2b(self._in_order(self._evaluator.weights).tobytes(), digest_size=16).hexdigest()

    def arrays(self) -> Arrays:
        """Return copies of weights and optimizer state."""
        arrays: Arrays = {f"weights.{name}": p.detach().numpy().copy() for name, p in self._network.named_parameters()}
        arrays.update({f"adam.{name}": self._in_order(getattr(self._adam, name)) for name in _MOMENTS})
        arrays["adam.steps"] = self._adam.steps.numpy().copy()
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Go on from `arrays`, which are of the same architecture."""
        with torch.no_grad():
            for name, parameter in self._network.named_parameters():
                parameter.copy_(torch.from_numpy(arrays[f"weights.{name}"]))
        for name in _MOMENTS:
            start = 0
            for part in self._evaluator.split(getattr(self._adam, name)):
                values = arrays[f"adam.{name}"][start : start + part.numel()]
                part.copy_(torch.from_numpy(values).view(part.shape))
                start += part.numel()
        self._adam.steps.copy_(torch.from_numpy(arrays["adam.steps"]))

    def _in_order(self, vector: Tensor) -> Floats:
        """Return a copy of a vector like the weights, each parameter as the module has it."""
        return np.concatenate([part.numpy().ravel() for part in self._evaluator.split(vector)])

    def _loss(self, scores: Floats, samples: Samples, better: Longs, worse: Longs) -> Loss:
        rewards = samples.rewards.astype(np.float64)
        return ranking_loss(scores.astype(np.float64), rewards, better, worse, self._settings.pointwise_weight)
