"""Judged rows as scorer entries in five folds of queries, and what a learner makes of the other four.

The statistic was settled before the figures: for each query with good and bad answers, the accuracy of one learner
minus that of another, averaged over seeds; its mean over the queries, with a 95 % interval by resampling queries.
Answers of one query share what makes it hard, so the query, not the answer or the seed, is what was drawn at random.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5
from statistics import fmean

import numpy as np

from benchmarks.accuracy import Judged, within_query_accuracies
from benchmarks.home_assistant import Row, to_experience
from schemas.events import Experience
from schemas.records import Arrival, Origin, ScorerEntry
from schemas.settings import ScorerSettings
from trainers.embedding import Embedder
from trainers.prepare import ItemFeatures, prepare, query_hash
from trainers.scorer.learner import OnlineLearner

FOLDS = 5
SHARES = (0.05, 0.1, 0.25, 0.5, 1.0)
"""Of the stream, where the learning curve has its points."""

Accuracies = dict[str, float]
"""By query."""


def entry_of(event: Experience, items: ItemFeatures, number: int, rewards: Sequence[float | None]) -> ScorerEntry:
    """Return what the scorer gets of an answer; without rewards, as one that has arrived and is not judged."""
    return ScorerEntry(
        kind="feedback" if rewards else "arrived",
        experience_id=event.experience_id,
        feedback_id=f"{event.experience_id}/{number}" if rewards else None,
        origin=Origin("feedback", 0, number),
        received_at=0.0,
        query_hash=query_hash(event.query),
        intent_type=event.intent.type,
        item_ids=items.item_ids,
        item_types=items.item_types,
        rewards=tuple(rewards),
        arrival=Arrival(0, number),
        features=items.features,
    )


@dataclass(frozen=True, slots=True)
class Example:
    """One row of the data, as the scorer gets it."""

    row: Row
    items: ItemFeatures
    entry: ScorerEntry
    fold: int


def examples_of(rows: Iterable[Row], embedder: Embedder) -> list[Example]:
    """Return the rows in their order."""
    return [_example(row, prepare(to_experience(row), embedder), row.good) for row in rows]


def _example(row: Row, items: ItemFeatures, good: bool) -> Example:
    rewards = (1.0 if good else -1.0,) * len(items.item_ids)
    fold = int(md5(row.query.encode(), usedforsecurity=False).hexdigest(), 16) % FOLDS
    return Example(row, items, entry_of(to_experience(row), items, row.number, rewards), fold)


def split(examples: Sequence[Example], fold: int) -> tuple[list[Example], list[Example]]:
    """Return what is learned from, and the answers with items to queries that are not."""
    seen = [example for example in examples if example.fold != fold]
    return seen, [example for example in examples if example.fold == fold and example.entry.item_ids]


def shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """Return the examples with their rewards dealt out anew."""
    order = np.random.default_rng(seed).permutation(len(examples))
    labels = [examples[place].row.good for place in order]
    return [_example(one.row, one.items, label) for one, label in zip(examples, labels, strict=True)]


def learn(
    settings: ScorerSettings, seen: Sequence[Example], unseen: Sequence[Example], groups: int
) -> list[Accuracies]:
    """Learn in stream order, in steps of `groups` feedbacks; return accuracies by query at each of `SHARES`."""
    learner, found, done = OnlineLearner(settings), [], 0
    for share in SHARES:
        until = round(share * len(seen))
        for start in range(done, until, groups):
            learner.apply(start, [one.entry for one in seen[start : min(start + groups, until)]])
        done = until
        found.append(accuracies(unseen, [learner.score(one.entry).tolist() for one in unseen]))
    return found


def accuracies(examples: Sequence[Example], scores: Sequence[Sequence[float]]) -> Accuracies:
    """Return the accuracy by query, of item scores for each of the examples."""
    return within_query_accuracies(
        Judged(one.row.query, one.row.good, values) for one, values in zip(examples, scores, strict=True)
    )


def fold_mean(by_fold: Sequence[Accuracies]) -> float:
    """Return the mean over the folds of the mean over a fold's queries."""
    return fmean(fmean(fold.values()) for fold in by_fold)


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference with its 95 % interval."""

    mean: float
    low: float
    high: float
    queries: int


def over_seeds(runs: Sequence[Sequence[Accuracies]]) -> Accuracies:
    """Return each query's mean accuracy over runs of all folds."""
    merged = [{query: value for fold in run for query, value in fold.items()} for run in runs]
    return {query: fmean(run[query] for run in merged) for query in merged[0]}


def paired_difference(one: Mapping[str, float], other: Mapping[str, float], resamples: int = 20_000) -> Difference:
    """Return the mean over queries of `one - other`, its interval by resampling queries (percentiles, fixed seed)."""
    gaps = np.array([one[query] - other[query] for query in sorted(one)])
    draws = np.random.default_rng(0).integers(len(gaps), size=(resamples, len(gaps)))
    low, high = np.percentile(gaps[draws].mean(axis=1), (2.5, 97.5))
    return Difference(float(gaps.mean()), float(low), float(high), len(gaps))
