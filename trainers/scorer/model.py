"""The scorer's weights and what moves them: a network by gradient and Adam and a linear part, served as one network."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from schemas.settings import ScorerSettings
from trainers.scorer.adam import Adam
from trainers.scorer.architecture import HIDDEN
from trainers.scorer.entries import input_scale
from trainers.scorer.linear import AveragedLinear
from trainers.scorer.loss import Loss, ranking_loss
from trainers.scorer.network import Evaluator, ScorerNetwork, build_network, parameter_count
from trainers.scorer.samples import Floats, Longs, Samples
from trainers.scorer.validation import LEAST_SHARE

Arrays = dict[str, npt.NDArray[Any]]

_MOMENTS = ("mean", "square")

MAX_LOSS = 1e6
"""A loss beyond this has left the rails: its gradient would overflow."""

_LINEAR_UNITS = 2
"""relu(x) - relu(-x) is x."""


class ScorerModel:
    """A network of the rank that is set, on one thread: the same updates give the same weights, bit for bit.

    It is served as one network and learned as two: one row of its first layer and two hidden units are the averaged
    linear part, all others the network that learns by replay. The first finds what a good answer is like and cannot
    remember queries; the second finds what no line separates, and does remember. The output is their weighted mean.
    """

    def __init__(self, settings: ScorerSettings) -> None:
        torch.set_num_threads(1)
        self._settings = settings
        self._served = build_network(settings)
        self._evaluator = Evaluator(self._served)
        # What the linear part does not reach has no part in it.
        self._evaluator.weights.zero_()
        self._network = Evaluator(ScorerNetwork(settings.rank - 1, settings.seed, HIDDEN - _LINEAR_UNITS))
        self._adam = Adam(self._network.weights, self._network.gradient)
        self._linear = AveragedLinear(input_scale(settings))
        self.linear_share = LEAST_SHARE
        self._join()

    @property
    def parameters(self) -> int:
        """Number of values in the network that is served, read from it."""
        return parameter_count(self._served)

    def scores(self, rows: Floats) -> Floats:
        """Return one score a row of 813 scaled inputs."""
        return self._evaluator.forward(rows)[2]

    def parts(self, rows: Floats) -> tuple[Floats, Floats]:
        """Return each row's score by the network that learns by replay, and by the linear part."""
        return self._network.forward(rows)[2], self._linear.scores(rows)

    def blend(self, network: Floats, linear: Floats) -> Floats:
        """Return the scores that both parts' make."""
        share = np.float32(self.linear_share)
        blended: Floats = (1 - share) * network + share * linear
        return blended

    def share(self, linear_share: float) -> None:
        """Give the linear part this share of the score, from 0 to 1."""
        self.linear_share = linear_share
        self._join()

    def loss(self, scores: Floats, samples: Samples, better: Longs, worse: Longs) -> Loss:
        """Return the loss of scores."""
        rewards = samples.rewards.astype(np.float64)
        return ranking_loss(scores.astype(np.float64), rewards, better, worse, self._settings.pointwise_weight)

    def update(
        self, samples: Samples, fresh: int, better: Longs, worse: Longs, learning_rate: float
    ) -> tuple[bool, Floats]:
        """Take one optimizer update, and learn the first `fresh` samples' rewards.

        Returns:
            Whether it was taken: not where the loss is not finite, and the weights stay as they were; and the fresh
            samples' scores before it.
        """
        low, active, scores = self._network.forward(samples.rows)
        before = self.blend(scores[:fresh], self._linear.scores(samples.rows[:fresh]))
        loss = self.loss(scores, samples, better, worse)
        if not loss.value <= MAX_LOSS:
            return False, before
        self._network.backward(samples.rows, low, active, loss.slope.astype(np.float32))
        self._adam.step(learning_rate)
        self._linear.learn(samples.rows[:fresh], samples.rewards[:fresh])
        self._join()
        return True, before

    def weights_hash(self) -> str:
        """Return 32 hex digits of BLAKE2b of all weights, those that are served and those that learn."""
        weights = {name: values for name, values in self.arrays().items() if not name.startswith("adam.")}
        return blake2b(b"".join(values.tobytes() for values in weights.values()), digest_size=16).hexdigest()

    def arrays(self) -> Arrays:
        """Return copies of weights and optimizer state."""
        arrays: Arrays = {f"weights.{name}": p.detach().numpy().copy() for name, p in self._served.named_parameters()}
        arrays["network"] = self._in_order(self._network.weights)
        arrays.update({f"adam.{name}": self._in_order(getattr(self._adam, name)) for name in _MOMENTS})
        arrays["adam.steps"] = self._adam.steps.numpy().copy()
        arrays["linear.latest"], arrays["linear.mean"] = self._linear.latest.copy(), self._linear.mean.copy()
        arrays["linear.seen"], arrays["linear.share"] = np.array(self._linear.seen), np.array(self.linear_share)
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Go on from `arrays`, which are of the same architecture."""
        vectors = {"network": self._network.weights, **{f"adam.{m}": getattr(self._adam, m) for m in _MOMENTS}}
        for name, vector in vectors.items():
            start = 0
            for part in self._network.split(vector):
                part.copy_(torch.from_numpy(arrays[name][start : start + part.numel()]).view(part.shape))
                start += part.numel()
        self._adam.steps.copy_(torch.from_numpy(arrays["adam.steps"]))
        self._linear.latest[:], self._linear.mean[:] = arrays["linear.latest"], arrays["linear.mean"]
        self._linear.seen = int(arrays["linear.seen"])
        self.share(float(arrays["linear.share"]))

    def _join(self) -> None:
        """Write both parts into the network that is served."""
        down, hidden, hidden_bias, out, out_bias = self._evaluator.parameters
        parts = self._network.parameters
        down[:-1], down[-1] = parts[0], self._linear.weights
        hidden[:-2, :-1], hidden[-2:, -1], hidden_bias[:-2] = parts[1], (1.0, -1.0), parts[2]
        share = self.linear_share
        out[0, :-2], out[0, -2:] = (1 - share) * parts[3][0], (share, -share)
        out_bias[0] = (1 - share) * parts[4][0] + share * self._linear.bias

    def _in_order(self, vector: Tensor) -> Floats:
        """Return a copy of a vector like the weights, each parameter as the module has it."""
        return np.concatenate([part.numpy().ravel() for part in self._network.split(vector)])
