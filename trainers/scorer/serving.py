"""The newest scorer for scoring alone: numpy on a checkpoint's weights, without torch, optimizer or buffers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import InputError
from schemas.records import FEATURES_PER_ITEM
from schemas.vectors import EMBEDDING_SIZE
from trainers.features import layout_hash
from trainers.scorer.reading import (
    VERSION_FILE,
    Arrays,
    CheckpointUnreadableError,
    read_checkpoint,
    readable_checkpoints,
    weights_in,
)
from trainers.versions import VersionStore

Floats = npt.NDArray[np.float32]

_PRODUCTS = 2**18
"""Above so many products in one go numpy's BLAS takes several threads, which cost more than they save."""


@dataclass(frozen=True, slots=True)
class ServedScorer:
    """Which scorer it is."""

    epoch: int
    """Count of the versions put into use."""
    step: int
    """Optimizer updates in its life."""
    rank: int
    """Rank of its first layer."""
    version: str | None
    """The registry's version that it continues from; None where there was none."""
    embedder: str
    """What made the embeddings that it was trained on."""


class FrozenScorer:
    """Scores items with the weights of one moment."""

    def __init__(self, arrays: Arrays, meta: dict[str, Any]) -> None:
        """Take the weights of a checkpoint.

        The features' scales go into the first layer's weights, so that features are taken as they are.

        Raises:
            InputError: they were trained on another layout of the structured features.
        """
        of = meta["architecture"]
        if of["features"] != layout_hash():
            raise InputError(
                "the scorer was trained on another layout of the structured features than this program makes",
                "use the release that trained it, or run `tierstream retrain`",
            )
        down, hidden, self._hidden_bias, out, out_bias = weights_in(arrays)
        scale = np.full(EMBEDDING_SIZE + FEATURES_PER_ITEM, of["embedding_scale"], np.float32)
        scale[2 * EMBEDDING_SIZE :] = of["structured_scale"]
        scaled = np.ascontiguousarray((down * scale).T)
        self._query, self._item = scaled[:EMBEDDING_SIZE], scaled[EMBEDDING_SIZE:]
        self._at_once = max(1, _PRODUCTS // self._item.size)
        self._hidden, self._out, self._out_bias = np.ascontiguousarray(hidden.T), out[0].copy(), float(out_bias[0])
        self.about = ServedScorer(
            int(meta["epoch"]), int(meta["step"]), int(of["rank"]), meta.get("base"), str(of["embedder"])
        )

    def scores(self, features: bytes) -> Floats:
        """Return one score per item.

        Args:
            features: what `trainers.prepare.prepare` makes: the query's embedding, then for each item its embedding
                and structured features, little-endian float32.
        """
        vector = np.frombuffer(features, "<f4")
        rows = vector[EMBEDDING_SIZE:].reshape(-1, FEATURES_PER_ITEM)
        return self.score_rows(vector[:EMBEDDING_SIZE], rows)

    def score_rows(self, query: Floats, items: Floats) -> Floats:
        """Return one score a row of `items` (384 + 45 floats each) under a query's embedding (384 floats)."""
        if len(items) > self._at_once:
            starts = range(0, len(items), self._at_once)
            return np.concatenate([self.score_rows(query, items[start : start + self._at_once]) for start in starts])
        low = items @ self._item
        low += query @ self._query
        active = low @ self._hidden
        active += self._hidden_bias
        np.maximum(active, 0.0, out=active)
        result: Floats = active @ self._out
        result += self._out_bias
        return result

    def score_one(self, query: Floats, item: Floats) -> float:
        """Return the score of one item (384 + 45 floats) under a query's embedding (384 floats)."""
        low = query @ self._query
        low += item @ self._item
        active = low @ self._hidden
        active += self._hidden_bias
        np.maximum(active, 0.0, out=active)
        return float(active @ self._out) + self._out_bias


def newest_scorer(data_dir: Path | str) -> FrozenScorer:
    """Return the scorer in use.

    Raises:
        InputError: there is no checkpoint yet.
        VersionError: the version in use is not as it was added.
    """
    return FrozenScorer(*checkpoint_in_use(data_dir))


def checkpoint_in_use(data_dir: Path | str) -> tuple[Arrays, dict[str, Any]]:
    """Return the newest checkpoint of the version in use, or that version where nobody has gone on from it yet.

    Raises:
        InputError: there is no checkpoint yet.
        VersionError: the version in use is not as it was added.
    """
    folder, store = Path(data_dir) / "scorer", VersionStore(data_dir)
    history = store.in_use("scorer")
    version = history.version
    newest = next(readable_checkpoints(folder), None)
    if newest is not None and newest[1]["changes"] >= len(history.history):
        return newest
    if version is None:
        raise InputError(f"{folder} holds no scorer yet", "let a worker learn first, or name its --data-dir")
    path = store.verified(version) / VERSION_FILE
    try:
        arrays, meta = read_checkpoint(path)
    except CheckpointUnreadableError as error:
        raise InputError(str(error), "restore it, or run `tierstream models rollback scorer`") from error
    return arrays, {**meta, "base": version}
