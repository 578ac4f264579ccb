"""A checkpoint as it lies on disk, whatever its architecture: for reports, not for learning on. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors

from trainers.scorer.reading import CheckpointUnreadableError, newest_first, read_header


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """What a checkpoint file says of itself."""

    path: Path
    size_bytes: int
    written_at: float
    """Epoch seconds."""
    meta: dict[str, Any]
    """The JSON part: counts, decay, validation, architecture."""
    rank: int
    """Rows of the first layer's weights, read from their shape."""
    parameters: int
    """Values in all weights, counted from their shapes."""
    samples: dict[str, int]
    """Samples in the `replay` and `validation` buffers."""
    window: npt.NDArray[np.float64]
    """The progressive window's rows."""


def newest_file(folder: Path) -> tuple[CheckpointFile | None, list[str]]:
    """Return the newest checkpoint of the scorer in `folder` that can be read, and what cannot be read."""
    refused: list[str] = []
    for path in newest_first(folder / "checkpoints"):
        try:
            return describe(path), refused
        except CheckpointUnreadableError:
            refused.append(path.name)
    return None, refused


def describe(path: Path) -> CheckpointFile:
    """Look at a checkpoint file.

    Raises:
        CheckpointUnreadableError: it is truncated or of another form.
    """
    meta = read_header(path)
    try:
        there = path.stat()
        with safetensors.safe_open(path, "numpy") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no dict
            window = file.get_tensor("window")
        weights = {name: shape for name, shape in shapes.items() if name.startswith("weights.")}
        return CheckpointFile(
            path=path,
            size_bytes=there.st_size,
            written_at=there.st_mtime,
            meta=meta,
            rank=weights["weights.down.weight"][0],
            parameters=sum(math.prod(shape) for shape in weights.values()),
            samples={name: shapes[f"{name}.rewards"][0] for name in ("replay", "validation")},
            window=window,
        )
    except (safetensors.SafetensorError, OSError, KeyError) as error:
        raise CheckpointUnreadableError(f"checkpoint {path} is truncated or foreign: {error}") from error
