"""The scorer's gate: a candidate and the scorer in use, judged on feedback that neither has learned from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.records import ScorerEntry

JUDGED_ITEMS = 2000
"""The newest so many held-out items are judged on."""

WITHIN_QUERIES = 20
"""Where so many queries have items to be told apart, only such pairs count; below that, pairs of one intent do."""

RESAMPLES = 2000

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How often each of two scorers puts the better-judged item first, and the interval of the difference."""

    pairs_within: str
    """`query` or `intent`: what the two items of a pair share."""
    pairs: int
    queries: int
    """Queries that pairs are of; the resampling is over them."""
    in_use: float | None
    """Accuracy of the scorer in use; None without pairs."""
    candidate: float | None
    gain: float | None
    """Candidate minus scorer in use."""
    low: float | None
    """Lower end of the gain's 95 % interval."""
    high: float | None

    def better_by(self, margin: float) -> bool:
        """Whether the whole interval lies above `margin`."""
        return self.low is not None and self.low > margin

    def as_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


class HeldOut:
    """The newest held-out items, with the scores that two scorers give them."""

    def __init__(self) -> None:
        self._entries: deque[ScorerEntry] = deque()
        self._items = 0

    def add(self, entry: ScorerEntry) -> None:
        """Take in a feedback that no scorer has learned from; the oldest go."""
        self._entries.append(entry)
        self._items += len(entry.item_ids)
        while self._items > JUDGED_ITEMS and len(self._entries) > 1:
            self._items -= len(self._entries.popleft().item_ids)

    def compare(self, in_use: Callable[[bytes], Any], candidate: Callable[[bytes], Any], seed: int = 0) -> Comparison:
        """Judge two scorers.

        Args:
            in_use: returns one score per item of an entry's features.
            candidate: likewise.
            seed: of the resampling.
        """
        queries: dict[str, int] = {}
        rows = [
            (queries.setdefault(entry.query_hash, len(queries)), intent_type, reward, old, new)
            for entry in self._entries
            for intent_type, reward, old, new in zip(
                [entry.intent_type] * len(entry.rewards),
                entry.rewards,
                np.asarray(in_use(entry.features)).tolist(),
                np.asarray(candidate(entry.features)).tolist(),
                strict=True,
            )
            if reward is not None and -1.0 <= reward <= 1.0
        ]
        if not rows:
            return _compare_pairs("intent", _pairs_of_none(), 0, seed)
        query, intent, reward, old, new = (np.array(column) for column in zip(*rows, strict=True))
        better = reward[:, None] > reward[None, :]
        within = better & (query[:, None] == query[None, :])
        kind = "query"
        if len(np.unique(query[within.nonzero()[0]])) < WITHIN_QUERIES:
            kind, within = "intent", better & (intent[:, None] == intent[None, :])
        good, bad = within.nonzero()
        pairs = _Pairs(query[good], query[bad], _won(old, good, bad), _won(new, good, bad))
        return _compare_pairs(kind, pairs, len(queries), seed)


@dataclass(frozen=True, slots=True)
class _Pairs:
    one: npt.NDArray[np.int64]
    """Number of the better item's query."""
    other: npt.NDArray[np.int64]
    old: Doubles
    """1 where the scorer in use is right, 0.5 where it cannot tell."""
    new: Doubles


def _pairs_of_none() -> _Pairs:
    none = np.zeros(0, np.int64)
    return _Pairs(none, none, np.zeros(0), np.zeros(0))


def _won(scores: Doubles, good: npt.NDArray[Any], bad: npt.NDArray[Any]) -> Doubles:
    won: Doubles = (np.sign(scores[good] - scores[bad]) + 1.0) / 2
    return won


def _compare_pairs(kind: str, pairs: _Pairs, queries: int, seed: int) -> Comparison:
    """Compare on pairs; the interval is a paired bootstrap over queries (Efron and Tibshirani, 1993, chapter 13)."""
    count = len(pairs.one)
    if not count:
        return Comparison(kind, 0, 0, None, None, None, None, None)
    old, new = float(pairs.old.mean()), float(pairs.new.mean())
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(queries, np.full(queries, 1 / queries), size=RESAMPLES).astype(np.float64)
    place = pairs.one * queries + pairs.other
    gains = _resampled(weights, place, pairs.new - pairs.old, queries)
    counts = _resampled(weights, place, np.ones(count), queries)
    usable = counts > 0
    low, high = np.percentile(gains[usable] / counts[usable], (2.5, 97.5))
    used = len(np.unique(np.concatenate((pairs.one, pairs.other))))
    return Comparison(kind, count, used, old, new, new - old, float(low), float(high))


def _resampled(weights: Doubles, place: npt.NDArray[np.int64], values: Doubles, queries: int) -> Doubles:
    """Return each resample's sum of `values`: a pair counts as often as its query, or as the product of its two."""
    table = np.bincount(place, values, minlength=queries * queries).reshape(queries, queries)
    own = np.diag(table).copy()
    np.fill_diagonal(table, 0.0)
    total: Doubles = weights @ own + np.einsum("bq,bq->b", weights @ table, weights)
    return total
