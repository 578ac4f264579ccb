"""The shape of the scorer and what decides whether weights fit the settings; without torch, for whoever only looks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.records import FEATURES_PER_ITEM
from schemas.settings import ScorerSettings
from schemas.vectors import EMBEDDING_SIZE
from trainers.features import layout_hash

Floats = npt.NDArray[np.float32]

INPUTS = EMBEDDING_SIZE + FEATURES_PER_ITEM
"""813: query embedding, item embedding, structured features."""
HIDDEN = 64

_ALIGNMENT = 64
"""Bytes, as torch aligns its tensors."""


def empty_rows(count: int) -> Floats:
    """Return room for `count` rows, aligned as torch does it: how sums are split, and rounded, can depend on that."""
    size = count * INPUTS * 4
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(np.float32).reshape(count, INPUTS)


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
