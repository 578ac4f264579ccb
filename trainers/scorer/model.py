"""The weights with their optimizer: scores rows, takes one optimizer update at a time, and is saved as arrays."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from schemas.settings import ScorerSettings
from trainers.scorer.loss import Loss, ranking_loss
from trainers.scorer.network import Evaluator, build_network, parameter_count
from trainers.scorer.samples import Floats, Longs, Samples

Arrays = dict[str, npt.NDArray[Any]]

MAX_LOSS = 1e6
"""A loss beyond this has left the rails: its gradient would overflow."""


class ScorerModel:
    """Network and Adam, on one thread: the same updates give the same weights, bit for bit."""

    def __init__(self, settings: ScorerSettings) -> None:
        torch.set_num_threads(1)
        self._settings = settings
        self._network = build_network(settings)
        self._evaluator = Evaluator(self._network)
        self._adam = torch.optim.Adam(self._network.parameters(), lr=settings.learning_rate, fused=True)

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

    def update(self, samples: Samples, better: Longs, worse: Longs, learning_rate: float) -> bool:
        """Take one optimizer update; False, with the weights as they were, where the loss is not finite."""
        # The limit is each thread's own: a fresh one would let MKL split the sums, and round them otherwise.
        torch.set_num_threads(1)
        rows = torch.from_numpy(samples.rows)
        low, active, scores = self._evaluator.forward(rows)
        loss = self._loss(scores.numpy(), samples, better, worse)
        if not loss.value <= MAX_LOSS:
            return False
        slope = torch.from_numpy(loss.slope.astype(np.float32))
        self._evaluator.backward(rows, low, active, slope)
        self._adam.param_groups[0]["lr"] = learning_rate
        self._adam.step()
        return True

    def weights_hash(self) -> str:
        """Return 32 hex digits of BLAKE2b of all weights."""
        digest = blake2b(digest_size=16)
        for parameter in self._network.parameters():
            digest.update(parameter.detach().numpy().tobytes())
        return digest.hexdigest()

    def arrays(self) -> Arrays:
        """Return copies of weights and optimizer state."""
        arrays: Arrays = {}
        for name, parameter in self._network.named_parameters():
            arrays[f"weights.{name}"] = parameter.detach().numpy().copy()
            for key, value in self._adam.state[parameter].items():
                arrays[f"adam.{name}.{key}"] = value.numpy().copy()
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Go on from `arrays`, which are of the same architecture."""
        for name, parameter in self._network.named_parameters():
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(arrays[f"weights.{name}"].copy()))
            prefix = f"adam.{name}."
            state = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
            self._adam.state[parameter] = {key: torch.from_numpy(value.copy()) for key, value in state.items()}

    def _loss(self, scores: Floats, samples: Samples, better: Longs, worse: Longs) -> Loss:
        rewards = samples.rewards.astype(np.float64)
        return ranking_loss(scores.astype(np.float64), rewards, better, worse, self._settings.pointwise_weight)
