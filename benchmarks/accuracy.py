"""Within-query accuracy: does a score put the good answers of one query above its bad ones?"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TIE_DECIMALS = 6
"""Scores that agree so far tie: one input, scored in batches of other sizes, differs in its last bits."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer with its true label and the scores of its items."""

    query: str
    good: bool
    item_scores: Sequence[float]

    @property
    def score(self) -> float:
        """The mean over the items, rounded so that equal inputs tie."""
        return round(statistics.fmean(self.item_scores), TIE_DECIMALS)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The share of (good, bad) pairs in the right order, queries weighing alike."""

    value: float | None
    """From 0 to 1; None where no query has both."""
    standard_error: float | None
    """Of the mean over queries; None below two queries."""
    queries: int
    """Queries that have both good and bad answers."""
    pairs: int
    """(Good, bad) pairs that were compared."""


def within_query_accuracies(answers: Iterable[Judged]) -> dict[str, float]:
    """Return the share of right pairs by query; a tie counts half, and only queries with both kinds count."""
    return {query: _share(goods, bads) for query, (goods, bads) in _sides(answers).items()}


def within_query_accuracy(answers: Iterable[Judged]) -> Accuracy:
    """Return the accuracy; a tie counts half, and only queries with both good and bad answers count."""
    sides = _sides(answers)
    shares = [_share(goods, bads) for goods, bads in sides.values()]
    return Accuracy(
        value=statistics.fmean(shares) if shares else None,
        standard_error=statistics.stdev(shares) / len(shares) ** 0.5 if len(shares) > 1 else None,
        queries=len(shares),
        pairs=sum(len(goods) * len(bads) for goods, bads in sides.values()),
    )


def _sides(answers: Iterable[Judged]) -> dict[str, tuple[list[float], list[float]]]:
    """Return the scores of good and bad answers, by query, where there are both."""
    goods: defaultdict[str, list[float]] = defaultdict(list)
    bads: defaultdict[str, list[float]] = defaultdict(list)
    for answer in answers:
        (goods if answer.good else bads)[answer.query].append(answer.score)
    return {query: (goods[query], bads[query]) for query in sorted(goods.keys() & bads.keys())}


def _share(goods: Sequence[float], bads: Sequence[float]) -> float:
    won = sum((good > bad) + 0.5 * (good == bad) for good in goods for bad in bads)
    return won / (len(goods) * len(bads))
