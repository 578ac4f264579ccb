"""Embeddings of texts: hashed word n-grams, a sentence model (`trainers.minilm`), or a refusal; cached by text."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from schemas.settings import ScorerSettings
from schemas.vectors import EMBEDDING_SIZE
from trainers.text import words

Floats = npt.NDArray[np.float32]

CACHED_TEXTS = 8192
"""Texts whose embedding is kept: 12 MiB."""


class MissingEmbeddingError(ValueError):
    """An event brings no embedding and the settings say that it must."""


class Embedder(Protocol):
    """Turns texts into vectors."""

    def embed(self, texts: Sequence[str]) -> Floats:
        """Return one row of 384 floats a text."""
        ...


@lru_cache(maxsize=131072)
def _place(gram: str) -> tuple[int, float]:
    """Return dimension and sign of an n-gram; stable over processes and versions."""
    number = int.from_bytes(blake2b(gram.encode(), digest_size=8).digest(), "little")
    return (number >> 1) % EMBEDDING_SIZE, 1.0 if number & 1 else -1.0


class HashEmbedder:
    """Presence of word 1-grams and 2-grams, signed and hashed into 384 dimensions, of length 1.

    Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009. An empty text is the zero vector.
    """

    def embed(self, texts: Sequence[str]) -> Floats:
        """Return one row of 384 floats a text."""
        rows = np.zeros((len(texts), EMBEDDING_SIZE), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            found = words(text)
            for gram in {*found, *(f"{a} {b}" for a, b in pairwise(found))}:
                place, sign = _place(gram)
                row[place] += sign
            length = float(np.sqrt(row @ row))
            if length > 0:
                row /= length
        return rows


class SuppliedOnly:
    """Refuses to embed: events must bring their vectors."""

    def embed(self, texts: Sequence[str]) -> Floats:
        """Return nothing for nothing.

        Raises:
            MissingEmbeddingError: there is a text to embed.
        """
        if texts:
            raise MissingEmbeddingError(
                f"{len(texts)} text(s) without an embedding; send query_embedding and item_embeddings, "
                'or set scorer.embedder = "hash" or "minilm"'
            )
        return np.zeros((0, EMBEDDING_SIZE), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class EmbeddingStats:
    """What embedding has cost so far."""

    hits: int = 0
    """Texts that were found in the cache."""
    misses: int = 0
    """Texts that were embedded."""
    seconds: float = 0.0
    """Time spent embedding them."""

    @property
    def hit_rate(self) -> float | None:
        """Share of the texts that cost nothing; None before the first."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else None

    @property
    def seconds_per_text(self) -> float | None:
        """Mean cost of a text that was not in the cache; None before the first."""
        return self.seconds / self.misses if self.misses else None


class CachedEmbedder:
    """Keeps the embeddings of the texts used last; several threads may use it, one at a time is served."""

    def __init__(self, inner: Embedder, capacity: int = CACHED_TEXTS) -> None:
        self._inner = inner
        self._capacity = capacity
        self._rows: OrderedDict[str, Floats] = OrderedDict()
        self._turn = threading.Lock()
        self.stats = EmbeddingStats()

    def embed(self, texts: Sequence[str]) -> Floats:
        """Return one row of 384 floats a text; only texts not seen of late cost anything."""
        with self._turn:
            return self._embed(texts)

    def _embed(self, texts: Sequence[str]) -> Floats:
        missing = list(dict.fromkeys(text for text in texts if text not in self._rows))
        begun = time.perf_counter()
        fresh = dict(zip(missing, self._inner.embed(missing), strict=True)) if missing else {}
        self.stats = EmbeddingStats(
            self.stats.hits + len(texts) - len(missing),
            self.stats.misses + len(missing),
            self.stats.seconds + (time.perf_counter() - begun if missing else 0.0),
        )
        result = np.zeros((len(texts), EMBEDDING_SIZE), dtype=np.float32)
        for row, text in zip(result, texts, strict=True):
            if text not in fresh:
                self._rows.move_to_end(text)
            row[:] = fresh[text] if text in fresh else self._rows[text]
        self._rows.update(fresh)
        while len(self._rows) > self._capacity:
            self._rows.popitem(last=False)
        return result


def build_embedder(settings: ScorerSettings) -> CachedEmbedder:
    """Return the embedder that the settings name, with its cache.

    Raises:
        InputError: its model is not there; names the remedy.
    """
    if settings.embedder == "minilm":
        # Loaded only where it is asked for: it reads 90 MB.
        from trainers.minilm import MiniLmEmbedder

        return CachedEmbedder(MiniLmEmbedder())
    return CachedEmbedder(SuppliedOnly() if settings.embedder == "supplied" else HashEmbedder())
