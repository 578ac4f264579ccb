"""What others make of the same stream: Vowpal Wabbit and River, logistic loss, one online pass.

Each gets two kinds of features: the scorer's own 813 inputs, an example an item and the mean over an answer's items;
and plain text, 768 signed and hashed word 1- and 2-grams of what the assistant did and said, an example an answer.
Nothing is held out of what they learn from, and the best of each grid is taken on the folds that are reported: both to
their advantage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from itertools import pairwise
from typing import Protocol

import numpy as np
from river import linear_model, optim
from vowpalwabbit import Workspace

from benchmarks.folds import FOLDS, Accuracies, Example, accuracies, split
from benchmarks.home_assistant import Row
from schemas.records import FEATURES_PER_ITEM, ScorerEntry
from schemas.vectors import EMBEDDING_SIZE
from trainers.text import words

NGRAMS = 768
Sparse = dict[int, float]


class Learner(Protocol):
    """Learns one example at a time."""

    def learn(self, features: Sparse, good: bool) -> None:
        """Take one example in."""

    def score(self, features: Sparse) -> float:
        """Return a score, higher for better."""
        ...


class VowpalWabbit:
    """Its default learner: adaptive, normalised and invariant updates."""

    def __init__(self, learning_rate: float) -> None:
        self._model = Workspace(f"--loss_function logistic --quiet -b 12 -l {learning_rate}")

    def learn(self, features: Sparse, good: bool) -> None:
        """Take one example in."""
        self._model.learn(f"{1 if good else -1} {_as_text(features)}")

    def score(self, features: Sparse) -> float:
        """Return the linear score."""
        return float(self._model.predict(_as_text(features)))


def _as_text(features: Sparse) -> str:
    return "|f " + " ".join(f"{place}:{value:.6g}" for place, value in features.items())


class River:
    """Logistic regression with plain gradient descent, River's default; on n-grams it is the data's own baseline."""

    def __init__(self, learning_rate: float) -> None:
        self._model = linear_model.LogisticRegression(optimizer=optim.SGD(learning_rate))

    def learn(self, features: Sparse, good: bool) -> None:
        """Take one example in."""
        self._model.learn_one(features, good)

    def score(self, features: Sparse) -> float:
        """Return the probability of good."""
        return float(self._model.predict_proba_one(features)[True])


GRIDS: Mapping[str, tuple[Callable[[float], Learner], tuple[float, ...]]] = {
    "Vowpal Wabbit": (VowpalWabbit, (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 8.0, 32.0, 128.0, 512.0)),
    "River": (River, (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)),
}
"""Learner and learning rates by name, three to five times apart, so wide that no best point lies at an end."""


def item_features(entry: ScorerEntry) -> list[Sparse]:
    """Return the 813 inputs of each item, unscaled."""
    vectors = np.frombuffer(entry.features, "<f4")
    items = vectors[EMBEDDING_SIZE:].reshape(-1, FEATURES_PER_ITEM)
    return [_sparse(np.concatenate((vectors[:EMBEDDING_SIZE], item))) for item in items]


def _sparse(row: np.ndarray) -> Sparse:
    return {int(place): float(row[place]) for place in np.flatnonzero(row)}


@cache
def _place(gram: str) -> tuple[int, float]:
    number = int.from_bytes(blake2b(gram.encode(), digest_size=8).digest(), "little")
    return (number >> 1) % NGRAMS, 1.0 if number & 1 else -1.0


def ngram_features(row: Row) -> list[Sparse]:
    """Return the hashed n-grams of the answer, of length 1."""
    found = words(f"{row.tool_call} {row.response}")
    total = np.zeros(NGRAMS)
    for gram in {*found, *(f"{a} {b}" for a, b in pairwise(found))}:
        place, sign = _place(gram)
        total[place] += sign
    return [_sparse(total / max(float(np.linalg.norm(total)), 1e-9))]


Featured = list[tuple[Example, list[Sparse]]]


def featured(examples: Sequence[Example]) -> dict[str, Featured]:
    """Return the examples with their features, by kind of features."""
    return {
        "813 inputs": [(one, item_features(one.entry)) for one in examples],
        "768 n-grams": [(one, ngram_features(one.row)) for one in examples],
    }


def run(make: Callable[[], Learner], data: Featured) -> list[Accuracies]:
    """Return the accuracies by query on each fold, after one pass over the others."""
    found = []
    features = {id(example): values for example, values in data}
    for fold in range(FOLDS):
        learner = make()
        seen, unseen = split([example for example, _ in data], fold)
        for example in seen:
            for one in features[id(example)]:
                learner.learn(one, example.row.good)
        found.append(accuracies(unseen, [[learner.score(one) for one in features[id(e)]] for e in unseen]))
    return found


def run_grids(data: Mapping[str, Featured]) -> Iterable[tuple[str, str, float, list[Accuracies]]]:
    """Yield learner, kind of features, learning rate and accuracies for every point of the grids."""
    for name, (make, rates) in GRIDS.items():
        for kind, examples in data.items():
            for rate in rates:
                yield name, kind, rate, run(lambda make=make, rate=rate: make(rate), examples)  # type: ignore[misc]
