"""The low-rank network: a torch module, and its scores and gradient by hand on the same weights.

The gradient is written out because autograd's bookkeeping costs several times the arithmetic at these sizes;
a test compares the two.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor, nn

from schemas.errors import ArchitectureMismatchError
from schemas.settings import ScorerSettings
from trainers.scorer.architecture import HIDDEN, INPUTS, Floats, expected_parameters

_MATRIX_PRODUCTS, _VECTOR_PRODUCTS = 2**18, 2**13
"""Up to so many products numpy is faster than torch; above them its BLAS would take several threads."""


def product(one: Floats, other: Floats, out: Floats | None = None) -> Floats:
    """Return the product of a matrix with a matrix or a vector, worked out by this thread alone."""
    columns, most = (other.shape[1], _MATRIX_PRODUCTS) if other.ndim == 2 else (1, _VECTOR_PRODUCTS)
    if one.size * columns <= most:
        small: Floats = np.dot(one, other, out=out)
        return small
    # The limit is each thread's own: a fresh one would let MKL split the sums, and round them otherwise.
    torch.set_num_threads(1)
    into = None if out is None else torch.from_numpy(out)
    large: Floats = torch.matmul(torch.from_numpy(one), torch.from_numpy(other), out=into).numpy()
    return large


class ScorerNetwork(nn.Module):
    """`Linear(813 -> rank, no bias) -> Linear(rank -> hidden) -> ReLU -> Linear(hidden -> 1)`."""

    def __init__(self, rank: int, seed: int, hidden: int) -> None:
        super().__init__()
        with warnings.catch_warnings(action="ignore"):
            # Torch warns of rank 0, which is what rank 1 leaves beside the linear part.
            self.down = nn.Linear(INPUTS, rank, bias=False)
            self.hidden = nn.Linear(rank, hidden)
        self.out = nn.Linear(hidden, 1)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter, fan_in in zip(self.parameters(), (INPUTS, rank, rank, hidden, hidden), strict=True):
                bound = max(fan_in, 1) ** -0.5
                parameter.copy_(torch.rand(parameter.shape, generator=generator) * (2 * bound) - bound)

    def forward(self, rows: Tensor) -> Tensor:
        """Return one score a row, from rows of 813 scaled inputs."""
        scores: Tensor = self.out(torch.relu(self.hidden(self.down(rows)))).squeeze(-1)
        return scores


class Evaluator:
    """Forward and gradient of a network on its own memory: an optimizer's step shows at once.

    All parameters become views of one vector, and their gradients of another, so that an optimizer has one to work on.
    Large products are torch's, all else is numpy's, whose calls cost a fraction of torch's at these sizes.
    """

    def __init__(self, network: ScorerNetwork) -> None:
        owners = list(network.parameters())
        self._shapes = [owner.shape for owner in owners]
        self.weights = torch.empty(parameter_count(network))
        self.gradient = torch.zeros_like(self.weights)
        for owner, place, slope in zip(owners, self.split(self.weights), self.split(self.gradient), strict=True):
            place.copy_(owner.detach())
            owner.data, owner.grad = place, slope
        self.parameters = [part.numpy() for part in self.split(self.weights)]
        """The module's parameters, in its order and shapes, as views."""
        down, self._hidden, self._hidden_bias, out, self._out_bias = self.parameters
        self._down_t, self._hidden_t, self._out = down.T, self._hidden.T, out[0]
        d_down, self._d_hidden, self._d_hidden_bias, d_out, self._d_out_bias = (
            t.numpy() for t in self.split(self.gradient)
        )
        self._d_down_t, self._d_out = d_down.T, d_out[0]

    def split(self, vector: Tensor) -> list[Tensor]:
        """Return the views of a vector like `weights` that belong to the module's parameters, in their shapes.

        The first layer lies there transposed, as its product with the rows needs it.
        """
        first, *others = torch.split(vector, [shape.numel() for shape in self._shapes])
        shape, *shapes = self._shapes
        return [first.view(shape[::-1]).T, *(part.view(of) for part, of in zip(others, shapes, strict=True))]

    def forward(self, rows: Floats) -> tuple[Floats, Floats, Floats]:
        """Return both layers' outputs and one score a row, from rows of 813 scaled inputs."""
        low = product(rows, self._down_t)
        active = product(low, self._hidden_t)
        active += self._hidden_bias
        np.maximum(active, 0.0, out=active)
        scores = product(active, self._out)
        scores += self._out_bias
        return low, active, scores

    def backward(self, rows: Floats, low: Floats, active: Floats, slope: Floats) -> None:
        """Write the parameters' gradients, from what `forward` returned and the loss's `slope` by each score."""
        product(active.T, slope, out=self._d_out)
        self._d_out_bias[0] = slope.sum()
        d_active = slope[:, None] * self._out
        d_active *= active > 0.0
        product(d_active.T, low, out=self._d_hidden)
        d_active.sum(axis=0, out=self._d_hidden_bias)
        product(rows.T, product(d_active, self._hidden), out=self._d_down_t)


def parameter_count(network: nn.Module) -> int:
    """Return the number of trainable values, read from the built module."""
    return sum(parameter.numel() for parameter in network.parameters())


def build_network(settings: ScorerSettings) -> ScorerNetwork:
    """Return a fresh network; its first weights follow from `settings.seed`.

    Raises:
        ArchitectureMismatchError: the module that was built is not of the rank that is set.
    """
    network = ScorerNetwork(settings.rank, settings.seed, HIDDEN)
    check_network(network, settings)
    return network


def check_network(network: ScorerNetwork, settings: ScorerSettings) -> None:
    """Compare the built module with the settings.

    Raises:
        ArchitectureMismatchError: they differ.
    """
    effective, rank = parameter_count(network), network.down.out_features
    if rank != settings.rank or effective != expected_parameters(settings.rank):
        raise ArchitectureMismatchError(
            f"scorer.rank = {settings.rank} means {expected_parameters(settings.rank):,} parameters, "
            f"but the network in effect has rank {rank} and {effective:,}"
        )
