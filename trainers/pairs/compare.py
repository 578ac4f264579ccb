"""Counting comparisons of two groups of answers without making each of them."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from schemas.settings import PairsSettings
from trainers.pairs.rules import gap_is_small


class Comparable(Protocol):
    """What a comparison looks at where intent, domains and devices fit."""

    @property
    def reward(self) -> float:
        """Blended reward."""

    @property
    def substance(self) -> bytes:
        """Digest of what the answer says."""


def close_or_same(
    good: Sequence[Comparable], bad: Sequence[Comparable], settings: PairsSettings
) -> tuple[int, int, int]:
    """Return how many comparisons have a small gap, how many compare equal answers, and how many both."""
    if not good or not bad:
        return 0, 0, 0
    small = 0
    if gap_is_small(min(a.reward for a in good), max(b.reward for b in bad), settings):
        rewards = sorted(b.reward for b in bad)
        for a in good:
            close = bisect_left(rewards, True, key=lambda reward, a=a: gap_is_small(a.reward, reward, settings))  # type: ignore[misc]
            small += len(rewards) - close
    by_substance: defaultdict[bytes, list[float]] = defaultdict(list)
    for b in bad:
        by_substance[b.substance].append(b.reward)
    same = both = 0
    for a in good:
        for reward in by_substance.get(a.substance, ()):
            same += 1
            both += gap_is_small(a.reward, reward, settings)
    return small, same, both
