"""The low-rank network: a torch module for learning, with its gradient by hand, and numpy on the same weights.

The gradient is written out because autograd's bookkeeping costs several times the arithmetic at these sizes;
a test compares the two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from schemas.errors import TierstreamError
from schemas.records import FEATURES_PER_ITEM
from schemas.settings import ScorerSettings
from schemas.vectors import EMBEDDING_SIZE
from trainers.features import layout_hash

Floats = npt.NDArray[np.float32]

INPUTS = EMBEDDING_SIZE + FEATURES_PER_ITEM
"""813: query embedding, item embedding, structured features."""
HIDDEN = 64

_NUMPY_PRODUCTS = 2**18
"""Up to so many products numpy is faster than torch; above them its BLAS would take several threads."""


def empty_rows(count: int) -> Floats:
    """Return room for `count` rows, aligned as torch does it: how sums are split, and rounded, can depend on that."""
    rows: Floats = torch.empty(count, INPUTS).numpy()
    return rows


class ArchitectureMismatchError(TierstreamError):
    """What is there is not what the settings ask for; the message names both and the remedies."""


class ScorerNetwork(nn.Module):
    """`Linear(813 -> rank, no bias) -> Linear(rank -> 64) -> ReLU -> Linear(64 -> 1)`."""

    def __init__(self, rank: int, seed: int) -> None:
        super().__init__()
        self.down = nn.Linear(INPUTS, rank, bias=False)
        self.hidden = nn.Linear(rank, HIDDEN)
        self.out = nn.Linear(HIDDEN, 1)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter, fan_in in zip(self.parameters(), (INPUTS, rank, rank, HIDDEN, HIDDEN), strict=True):
                bound = fan_in**-0.5
                parameter.copy_(torch.rand(parameter.shape, generator=generator) * (2 * bound) - bound)

    def forward(self, rows: Tensor) -> Tensor:
        """Return one score a row, from rows of 813 scaled inputs."""
        scores: Tensor = self.out(torch.relu(self.hidden(self.down(rows)))).squeeze(-1)
        return scores


class Evaluator:
    """Forward and gradient of a network on its own memory: an optimizer's step shows at once.

    All parameters become views of one vector, and their gradients of another, so that an optimizer has one to work on.
    """

    def __init__(self, network: ScorerNetwork) -> None:
        owners = list(network.parameters())
        self.weights = torch.cat([owner.detach().reshape(-1) for owner in owners])
        self.gradient = torch.zeros_like(self.weights)
        self._gradients, start = [], 0
        for owner in owners:
            place = slice(start, start + owner.numel())
            self._gradients.append(self.gradient[place].view(owner.shape))
            owner.data, owner.grad = self.weights[place].view(owner.shape), self._gradients[-1]
            start = place.stop
        down, self._hidden, self._hidden_bias, out, self._out_bias = (owner.detach() for owner in owners)
        self._down_t, self._hidden_t, self._out = down.T, self._hidden.T, out[0]
        self._arrays = [t.numpy() for t in (self._down_t, self._hidden_t, self._hidden_bias, self._out, self._out_bias)]
        self._numpy_rows = _NUMPY_PRODUCTS // down.numel()

    def scores(self, rows: Floats) -> Floats:
        """Return one score a row, from rows of 813 scaled inputs."""
        if len(rows) > self._numpy_rows:
            torch.set_num_threads(1)
            return self.forward(torch.from_numpy(rows))[2].numpy()
        down, hidden, hidden_bias, out, out_bias = self._arrays
        active = rows @ down @ hidden
        active += hidden_bias
        np.maximum(active, 0.0, out=active)
        result: Floats = active @ out + out_bias
        return result

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return both layers' outputs and the scores: what `backward` needs."""
        low = torch.mm(rows, self._down_t)
        active = torch.addmm(self._hidden_bias, low, self._hidden_t).clamp_(min=0.0)
        return low, active, torch.addmv(self._out_bias, active, self._out)

    def backward(self, rows: Tensor, low: Tensor, active: Tensor, slope: Tensor) -> None:
        """Write the parameters' gradients, from the loss's `slope` by each score."""
        d_down, d_hidden, d_hidden_bias, d_out, d_out_bias = self._gradients
        torch.mv(active.T, slope, out=d_out[0])
        torch.sum(slope, dim=0, keepdim=True, out=d_out_bias)
        d_active = torch.outer(slope, self._out).mul_(active.sign())
        torch.mm(d_active.T, low, out=d_hidden)
        torch.sum(d_active, dim=0, out=d_hidden_bias)
        torch.mm(torch.mm(d_active, self._hidden).T, rows, out=d_down)


def parameter_count(network: nn.Module) -> int:
    """Return the number of trainable values, read from the built module."""
    return sum(parameter.numel() for parameter in network.parameters())


def expected_parameters(rank: int) -> int:
    """Return 877 * rank + 129."""
    return (INPUTS + HIDDEN) * rank + HIDDEN + HIDDEN + 1


def architecture(settings: ScorerSettings) -> dict[str, Any]:
    """Return all that decides whether weights fit the settings."""
    return {
        "rank": settings.rank,
        "parameters": expected_parameters(settings.rank),
        "inputs": INPUTS,
        "hidden": HIDDEN,
        "embedding_scale": settings.embedding_scale,
        "structured_scale": settings.structured_scale,
        "embedder": settings.embedder,
        "features": layout_hash(),
    }


def build_network(settings: ScorerSettings) -> ScorerNetwork:
    """Return a fresh network; its first weights follow from `settings.seed`.

    Raises:
        ArchitectureMismatchError: the module that was built is not of the rank that is set.
    """
    network = ScorerNetwork(settings.rank, settings.seed)
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
