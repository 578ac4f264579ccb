"""An experience as the vectors that the scorer sees, and the choice of queries that are never learned from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from schemas.events import Experience, ItemType
from schemas.records import FEATURES_PER_ITEM
from schemas.vectors import EMBEDDING_SIZE
from trainers.embedding import Embedder
from trainers.features import FeatureContext
from trainers.items import items_of


@dataclass(frozen=True, slots=True)
class ItemFeatures:
    """What `ScorerEntry` takes of an experience."""

    item_ids: tuple[str, ...]
    item_types: tuple[ItemType, ...]
    features: bytes
    """Little-endian float32: the query's embedding (384), then for each item its embedding (384) and features (45)."""


def prepare(experience: Experience, embedder: Embedder) -> ItemFeatures:
    """Return the items' vectors; embeddings that the event brings are used as they are.

    Raises:
        MissingEmbeddingError: one is missing and the embedder makes none.
    """
    items = items_of(experience)
    supplied = experience.item_embeddings or {}
    texts = [] if experience.query_embedding is not None else [experience.query]
    texts += [item.text for item in items if item.item_id not in supplied]
    made = iter(embedder.embed(texts))
    query = experience.query_embedding
    vector = np.empty(EMBEDDING_SIZE + len(items) * FEATURES_PER_ITEM, dtype="<f4")
    vector[:EMBEDDING_SIZE] = next(made) if query is None else np.frombuffer(query, dtype="<f4")
    rows = vector[EMBEDDING_SIZE:].reshape(len(items), FEATURES_PER_ITEM)
    context = FeatureContext(experience, items)
    for item, row in zip(items, rows, strict=True):
        given = supplied.get(item.item_id)
        row[:EMBEDDING_SIZE] = next(made) if given is None else np.frombuffer(given, dtype="<f4")
        row[EMBEDDING_SIZE:] = context.of(item)
    return ItemFeatures(tuple(i.item_id for i in items), tuple(i.item_type for i in items), vector.tobytes())


def count_supplied(experience: Experience) -> int:
    """Return how many embeddings the event brings."""
    return (experience.query_embedding is not None) + len(experience.item_embeddings or {})


@lru_cache(maxsize=8192)
def query_hash(query: str) -> str:
    """Return 16 hex digits of BLAKE2b of the query's UTF-8."""
    return blake2b(query.encode(), digest_size=8).hexdigest()


def is_held_out(hashed_query: str, one_in: int) -> bool:
    """Say whether a query is validated on and never learned from: one query in `one_in`."""
    return int(hashed_query, 16) % one_in == 0
