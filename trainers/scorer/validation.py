"""What the held-out queries say: a buffer that is spread over them, accuracy within a query, who ranks them better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainers.scorer.loss import Doubles
from trainers.scorer.samples import Floats, Longs, SampleBuffer, Samples, neighbour_pairs

LEAST_SHARE = 0.25
"""Of the linear part, where it does not rank the held-out queries better than the network."""
DOUBT = 2.0
"""Squared leads that are added, as of twenty queries more: a handful of queries decides nothing."""


class SpreadBuffer(SampleBuffer):
    """The newest samples of each query and sign, as even as a capacity allows: the commonest make room first.

    Its samples are numbered by their feedback, so that `groups` tells the age.
    """

    def add(self, samples: Samples) -> None:
        """Take the samples in; the oldest of the commonest queries and signs go."""
        empty = self.capacity - len(self)
        super().add(samples.take(slice(empty)))
        fresh = samples.take(slice(max(empty, len(samples) - self.capacity), None))
        if not len(fresh):
            return
        kept = self.samples
        queries = np.concatenate((kept.queries, fresh.queries))
        good = np.concatenate((kept.rewards, fresh.rewards)) > 0
        age = np.concatenate((kept.groups, fresh.groups)).argsort(kind="stable").argsort(kind="stable")
        order = np.lexsort((-age, good, queries))
        first = np.ones(len(order), bool)
        first[1:] = (np.diff(queries[order]) != 0) | (good[order][1:] != good[order][:-1])
        places = np.arange(len(order))
        newer = np.empty(len(order), np.int64)
        newer[order] = places - np.maximum.accumulate(np.where(first, places, 0))
        goes = np.zeros(len(order), bool)
        goes[np.lexsort((age, -newer))[: len(fresh)]] = True
        self.replace(np.flatnonzero(goes[: len(kept)]), fresh.take(np.flatnonzero(~goes[len(kept) :])))

    def restore(self, samples: Samples, position: int) -> None:
        """Become the buffer that had these samples, or what a smaller one would keep of them."""
        self.clear()
        if len(samples) > self.capacity:
            samples = samples.take(samples.groups.argsort(kind="stable"))
        self.add(samples)


@dataclass(frozen=True, slots=True)
class QueryPairs:
    """Pairs of samples of one query and two rewards."""

    better: Longs
    worse: Longs
    query: Longs
    """Number of its query, a pair each."""

    @classmethod
    def of(cls, samples: Samples) -> QueryPairs:
        """Return pairs of each sample with its next ones of the same query; their number grows with the samples."""
        order = samples.queries.argsort(kind="stable")
        better, worse = neighbour_pairs(samples.rewards[order], samples.queries[order])
        better, worse = order[better], order[worse]
        return cls(better, worse, np.unique(samples.queries[better], return_inverse=True)[1])

    @property
    def queries(self) -> int:
        """Queries that have a pair."""
        return int(self.query.max()) + 1 if len(self.query) else 0

    def accuracies(self, scores: Floats) -> Doubles:
        """Return each query's share of pairs in the right order; a tie is half."""
        won = (np.sign(scores[self.better] - scores[self.worse]) + 1.0) / 2
        return np.bincount(self.query, won) / np.bincount(self.query)


def mean_or_none(accuracies: Doubles) -> float | None:
    """Return the mean over queries; None without one."""
    return float(accuracies.mean()) if len(accuracies) else None


def linear_share(network: Doubles, linear: Doubles) -> float:
    """Return how much of the score the linear part is to have, by the accuracies of both parts on the same queries.

    The share grows with the linear part's lead in standard errors, a paired test over queries: all from one on,
    `LEAST_SHARE` without one.
    """
    lead = linear - network
    errors = float(lead.sum() / (lead @ lead + DOUBT) ** 0.5)
    return LEAST_SHARE + (1 - LEAST_SHARE) * min(max(errors, 0.0), 1.0)
