"""Scorer entries as rows of the network's input, and what is to be done with each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from schemas.records import FEATURES_PER_ITEM, Origin, ScorerEntry
from schemas.settings import ScorerSettings
from schemas.vectors import EMBEDDING_SIZE
from trainers.prepare import is_held_out
from trainers.scorer.network import INPUTS
from trainers.scorer.samples import Floats, Longs, Samples

MAX_LENGTH = 1e3
"""Vectors whose length is beyond this are as unusable as infinite ones: they would drown all that was learned."""


class Use(Enum):
    """What an entry is for."""

    ARRIVED = "scored"
    HELD_OUT = "validated on"
    LEARNED = "learned"
    NO_REWARD = "skipped: no reward for an item that is there"
    NOT_FINITE = "skipped: NaN, infinite or beyond bounds"


def use_of(entry: ScorerEntry, settings: ScorerSettings) -> Use:
    """Return what the entry is for; depends on nothing but the entry and the settings."""
    vectors = np.frombuffer(entry.features, dtype="<f4")
    with np.errstate(over="ignore"):
        length_squared = float(vectors @ vectors)
    # NaN fails the comparison too.
    if not length_squared <= MAX_LENGTH**2:
        return Use.NOT_FINITE
    if entry.kind == "arrived":
        return Use.ARRIVED
    if any(is_usable(reward) for reward in entry.rewards):
        return Use.HELD_OUT if is_held_out(entry.query_hash, settings.validation_one_in) else Use.LEARNED
    return Use.NO_REWARD if all(reward is None for reward in entry.rewards) else Use.NOT_FINITE


def is_usable(reward: float | None) -> bool:
    """Say whether a reward is there, and from -1 to 1."""
    return reward is not None and abs(reward) <= 1.0


def input_scale(settings: ScorerSettings) -> Floats:
    """Return the factor of each of the 813 inputs."""
    scale = np.full(INPUTS, settings.embedding_scale, np.float32)
    scale[2 * EMBEDDING_SIZE :] = settings.structured_scale
    return scale


def input_rows(entry: ScorerEntry, scale: Floats) -> Floats:
    """Return one row of 813 scaled inputs an item."""
    vectors = np.frombuffer(entry.features, dtype="<f4")
    rows = np.empty((len(entry.item_ids), INPUTS), np.float32)
    np.multiply(vectors[:EMBEDDING_SIZE], scale[:EMBEDDING_SIZE], out=rows[:, :EMBEDDING_SIZE])
    items = vectors[EMBEDDING_SIZE:].reshape(-1, FEATURES_PER_ITEM)
    np.multiply(items, scale[EMBEDDING_SIZE:], out=rows[:, EMBEDDING_SIZE:])
    return rows


def judged_samples(entries: Sequence[ScorerEntry], rows: Floats, first_group: int) -> tuple[Samples, Longs]:
    """Return the items with a usable reward, and their places in `rows`, which are all items of the entries."""
    places, rewards, marks, start = [], [], [], 0
    for group, entry in enumerate(entries, start=first_group):
        mark = (_intent_mark(entry.intent_type), int(entry.query_hash, 16), group)
        for number, reward in enumerate(entry.rewards, start=start):
            if is_usable(reward):
                places.append(number)
                rewards.append(reward)
                marks.append(mark)
        start += len(entry.item_ids)
    taken = np.array(places, np.int64)
    intents, queries, groups = np.array(marks, np.uint64).reshape(-1, 3).T
    return Samples(rows[taken], np.array(rewards, np.float32), intents, queries, groups), taken


@lru_cache(maxsize=4096)
def _intent_mark(intent_type: str) -> int:
    return int.from_bytes(blake2b(intent_type.encode(), digest_size=8).digest(), "little")


@dataclass(slots=True)
class Origins:
    """The highest origin applied per input partition; origins of one partition only ever grow."""

    highest: dict[tuple[str, int], tuple[int, int]]

    def take(self, origin: Origin) -> bool:
        """Say whether the origin is new, and remember it."""
        key, place = (origin.topic, origin.partition), (origin.offset, origin.part)
        if place <= self.highest.get(key, (-1, -1)):
            return False
        self.highest[key] = place
        return True

    def copy(self) -> Origins:
        """Return origins that grow apart from these."""
        return Origins(dict(self.highest))
