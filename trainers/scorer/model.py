"""The weights with their optimizer: scores rows, takes one optimizer update at a time, and is saved as arrays."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from schemas.settings import ScorerSettings
from trainers.scorer.adam import Adam
from trainers.scorer.loss import Loss, ranking_loss
from trainers.scorer.network import Evaluator, build_network, parameter_count
from trainers.scorer.samples import Floats, Longs, Samples

Arrays = dict[str, npt.NDArray[Any]]

_ADAM = ("mean", "square", "steps")

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
        return self._evaluator.scores(rows)

    def loss(self, samples: Samples, better: Longs, worse: Longs) -> Loss:
        """Return the loss without learning."""
        return self._loss(self.scores(samples.rows), samples, better, worse)

    def update(self, samples: Samples, better: Longs, worse: Longs, learning_rate: float) -> tuple[bool, Floats]:
        """Take one optimizer update.

        Returns:
            Whether it was taken: not where the loss is not finite, and the weights stay as they were; and the scores
            before it.
        """
        # The limit is each thread's own: a fresh one would let MKL split the sums, and round them otherwise.
        torch.set_num_threads(1)
        rows = torch.from_numpy(samples.rows)
        low, active, scores = self._evaluator.forward(rows)
        before: Floats = scores.numpy()
        loss = self._loss(before, samples, better, worse)
        if not loss.value <= MAX_LOSS:
            return False, before
        self._evaluator.backward(rows, low, active, torch.from_numpy(loss.slope.astype(np.float32)))
        self._adam.step(learning_rate)
        return True, before

    def weights_hash(self) -> str:
        """Return 32 hex digits of BLAKE2b of all weights."""
        return blake2b(self._evaluator.weights.numpy().tobytes(), digest_size=16).hexdigest()

    def arrays(self) -> Arrays:
        """Return copies of weights and optimizer state."""
        arrays: Arrays = {f"weights.{name}": p.detach().numpy().copy() for name, p in self._network.named_parameters()}
        for name in _ADAM:
            arrays[f"adam.{name}"] = getattr(self._adam, name).numpy().copy()
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Go on from `arrays`, which are of the same architecture."""
        with torch.no_grad():
            for name, parameter in self._network.named_parameters():
                parameter.copy_(torch.from_numpy(arrays[f"weights.{name}"]))
        for name in _ADAM:
            getattr(self._adam, name).copy_(torch.from_numpy(arrays[f"adam.{name}"]))

    def _loss(self, scores: Floats, samples: Samples, better: Longs, worse: Longs) -> Loss:
        rewards = samples.rewards.astype(np.float64)
        return ranking_loss(scores.astype(np.float64), rewards, better, worse, self._settings.pointwise_weight)
