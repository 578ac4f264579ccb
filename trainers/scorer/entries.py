"""Scorer entries as rows of the network's input, and what is to be done with each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache
from hashlib import blake2b
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.records import FEATURES_PER_ITEM, Origin, ScorerEntry
from schemas.settings import ScorerSettings
from schemas.vectors import EMBEDDING_SIZE, MAX_LENGTH
from trainers.prepare import is_held_out
from trainers.scorer.architecture import INPUTS
from trainers.scorer.samples import Floats, Samples


class Use(Enum):
    """What an entry is for."""

    ARRIVED = "scored"
    HELD_OUT = "validated on"
    LEARNED = "learned"
    NO_REWARD = "skipped: no reward for an item that is there"
    NOT_FINITE = "skipped: NaN, infinite or beyond bounds"
    NO_FEATURES = "skipped: the experience's features are gone"


def use_of(entry: ScorerEntry, settings: ScorerSettings) -> Use:
    """Return what the entry is for; depends on nothing but the entry and the settings."""
    if not entry.features:
        return Use.NO_FEATURES
    vectors = np.frombuffer(entry.features, dtype="<f4")
    # The contract bounds each vector, so this holds of what was made from events. NaN fails the comparison too.
    most = (1 + len(entry.item_ids)) * (MAX_LENGTH**2 + FEATURES_PER_ITEM)
    if not np.dot(vectors, vectors) <= most:
        return Use.NOT_FINITE
    if entry.kind == "arrived":
        return Use.ARRIVED
    for reward in entry.rewards:
        if reward is not None and -1.0 <= reward <= 1.0:
            return Use.HELD_OUT if is_held_out(entry.query_hash, settings.validation_one_in) else Use.LEARNED
    return Use.NO_REWARD if all(reward is None for reward in entry.rewards) else Use.NOT_FINITE


def input_scale(settings: ScorerSettings) -> Floats:
    """Return the factor of each of the 813 inputs."""
    scale = np.full(INPUTS, settings.embedding_scale, np.float32)
    scale[2 * EMBEDDING_SIZE :] = settings.structured_scale
    return scale


def fill_rows(rows: Floats, entries: Sequence[ScorerEntry], scale: Floats) -> None:
    """Write one row of 813 scaled inputs for each item of the entries; neighbours of one size go in one piece."""
    start = 0
    for count, run in groupby(entries, key=lambda entry: len(entry.item_ids)):
        features = [entry.features for entry in run]
        vectors = np.frombuffer(b"".join(features), dtype="<f4").reshape(len(features), -1)
        stop = start + len(features) * count
        block = rows[start:stop].reshape(len(features), count, INPUTS)
        items = vectors[:, EMBEDDING_SIZE:].reshape(len(features), count, FEATURES_PER_ITEM)
        np.multiply(vectors[:, None, :EMBEDDING_SIZE], scale[:EMBEDDING_SIZE], out=block[:, :, :EMBEDDING_SIZE])
        np.multiply(items, scale[EMBEDDING_SIZE:], out=block[:, :, EMBEDDING_SIZE:])
        start = stop


def judged_items(entries: Sequence[ScorerEntry], rows: Floats, first_group: int) -> Samples:
    """Return all items of feedbacks, a row each, as samples; a reward that is missing or unusable is NaN."""
    counts = [len(entry.rewards) for entry in entries]
    # None becomes NaN, and NaN is not within bounds.
    rewards = np.array([reward for entry in entries for reward in entry.rewards], np.float64)
    rewards[~(np.abs(rewards) <= 1.0)] = np.nan
    intents = [_intent_mark(entry.intent_type) for entry in entries]
    queries = [int(entry.query_hash, 16) for entry in entries]
    groups = range(first_group, first_group + len(entries))
    marks = np.array((intents, queries, groups), np.uint64)
    return Samples(rows, rewards.astype(np.float32), *marks.repeat(counts, axis=1))


@lru_cache(maxsize=4096)
def _intent_mark(intent_type: str) -> int:
    return int.from_bytes(blake2b(intent_type.encode(), digest_size=8).digest(), "little")


class Origins:
    """Which input records have been applied: one bit each, for ever.

    A high-water mark would not do, as origins come in no promised order. A partition's bits begin at the first offset
    that was seen, rounded down to a whole byte, and grow at both ends.
    """

    def __init__(self) -> None:
        self._bits: dict[tuple[str, int], tuple[int, bytearray]] = {}

    def __contains__(self, origin: Origin) -> bool:
        base, bits = self._bits.get((origin.topic, origin.partition), _NO_BITS)
        place = origin.offset - base
        return 0 <= place < 8 * len(bits) and bool(bits[place >> 3] >> (place & 7) & 1)

    def add(self, origin: Origin) -> None:
        """Remember the origin."""
        key, offset = (origin.topic, origin.partition), origin.offset
        base, bits = self._bits.get(key, _NO_BITS)
        if not bits or offset < base:
            lower = offset & ~7
            bits = bytearray((base - lower) >> 3) + bits if bits else bytearray(1)
            base = lower
            self._bits[key] = base, bits
        place = offset - base
        if place >= 8 * len(bits):
            bits.extend(bytes((place >> 3) + 1 - len(bits)))
        bits[place >> 3] |= 1 << (place & 7)

    def arrays(self) -> dict[str, npt.NDArray[np.uint8]]:
        """Return a copy as arrays, named by topic, partition and first offset."""
        return {
            f"{_ARRAYS}{topic}:{partition}:{base}": np.frombuffer(bytes(bits), np.uint8)
            for (topic, partition), (base, bits) in self._bits.items()
        }

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become what `arrays` was made from; arrays of other names are passed over."""
        self._bits.clear()
        for name, array in arrays.items():
            if name.startswith(_ARRAYS):
                topic, partition, base = name.removeprefix(_ARRAYS).split(":")
                self._bits[topic, int(partition)] = int(base), bytearray(array.tobytes())


_ARRAYS = "origins:"
_NO_BITS = (0, bytearray())
