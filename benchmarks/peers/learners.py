"""The learners that users of other engines would have: linear ones of Vowpal Wabbit and River, a network of PyTorch.

Each feedback is scored, learned (an example an item, its reward the label), and scored again, one after the other as it
comes. Nothing is replayed, ranked or held out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from river import linear_model, optim
from torch import nn
from vowpalwabbit import Workspace

from benchmarks.peers.work import Joined, Messages, entry_of
from schemas.records import FEATURES_PER_ITEM, Scored
from schemas.settings import Settings
from schemas.vectors import EMBEDDING_SIZE
from trainers.scorer.updates import encode_update

torch.set_num_threads(1)
INPUTS = EMBEDDING_SIZE + FEATURES_PER_ITEM


class Model(Protocol):
    """Scores items and learns their rewards."""

    def items(self, rows: np.ndarray) -> Any:
        """Return rows of 813 inputs as the model takes them."""

    def score(self, items: Any) -> list[float]:
        """Return a score an item."""
        ...

    def learn(self, items: Any, rewards: np.ndarray) -> None:
        """Take one step, or one an item; NaN is no reward."""


class EachFeedback:
    """Lets a model learn one feedback after the other."""

    def __init__(self, model: Model) -> None:
        self._model, self._step = model, 0

    def learn(self, joined: list[Joined]) -> Messages:
        """Return the score updates."""
        return [(one.experience_id.encode(), self._update(one)) for one in joined]

    def _update(self, one: Joined) -> bytes:
        items, previous, reason = self._model.items(_rows(one.known.features)), None, "experience_arrived"
        scores = self._model.score(items)
        if one.feedback_id is not None:
            self._model.learn(items, np.array(one.rewards, np.float32))  # None becomes NaN
            self._step += 1
            previous, scores, reason = tuple(scores), self._model.score(items), "feedback_learned"
        scored = Scored(entry_of(one, 0), reason, self._step, tuple(scores), previous)  # type: ignore[arg-type]
        return encode_update(scored, 1, "peer", time.time())


def _rows(features: bytes) -> np.ndarray:
    vectors = np.frombuffer(features, "<f4")
    items = vectors[EMBEDDING_SIZE:].reshape(-1, FEATURES_PER_ITEM)
    return np.hstack((np.broadcast_to(vectors[:EMBEDDING_SIZE], (len(items), EMBEDDING_SIZE)), items))


def _sparse(row: np.ndarray) -> tuple[list[int], list[float]]:
    places = np.flatnonzero(row)
    return places.tolist(), row[places].tolist()


class VowpalWabbit:
    """Its default learner: squared loss, adaptive, normalised and invariant updates."""

    def __init__(self) -> None:
        self._model = Workspace("--quiet -b 12")

    def items(self, rows: np.ndarray) -> list[str]:
        """Return a line of its text format each."""
        return ["|f " + " ".join(map("{}:{:.6g}".format, *_sparse(row))) for row in rows]

    def score(self, items: list[str]) -> list[float]:
        """Return a score an item."""
        return [float(self._model.predict(item)) for item in items]

    def learn(self, items: list[str], rewards: np.ndarray) -> None:
        """Take one step an item."""
        for item, reward in zip(items, rewards.tolist(), strict=True):
            if not math.isnan(reward):
                self._model.learn(f"{reward:.6g} {item}")


class River:
    """Linear regression by gradient descent, River's default."""

    def __init__(self) -> None:
        self._model = linear_model.LinearRegression(optimizer=optim.SGD(0.01))

    def items(self, rows: np.ndarray) -> list[dict[int, float]]:
        """Return a dictionary each."""
        return [dict(zip(*_sparse(row), strict=True)) for row in rows]

    def score(self, items: list[dict[int, float]]) -> list[float]:
        """Return a score an item."""
        return [float(self._model.predict_one(item)) for item in items]

    def learn(self, items: list[dict[int, float]], rewards: np.ndarray) -> None:
        """Take one step an item."""
        for item, reward in zip(items, rewards.tolist(), strict=True):
            if not math.isnan(reward):
                self._model.learn_one(item, reward)


class PyTorch:
    """A network of our size, Adam, mean squared error: `zero_grad`, `backward` and `step` for each feedback."""

    def __init__(self) -> None:
        settings = Settings().scorer
        torch.manual_seed(0)
        rank = nn.Linear(INPUTS, settings.rank, bias=False)
        self._model = nn.Sequential(rank, nn.Linear(settings.rank, 64), nn.ReLU(), nn.Linear(64, 1))
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=settings.learning_rate)

    def items(self, rows: np.ndarray) -> torch.Tensor:
        """Return one matrix."""
        return torch.from_numpy(rows)

    def score(self, items: torch.Tensor) -> list[float]:
        """Return a score an item."""
        with torch.no_grad():
            found: list[float] = self._model(items).squeeze(1).tolist()
        return found

    def learn(self, items: torch.Tensor, rewards: np.ndarray) -> None:
        """Take one step."""
        target = torch.from_numpy(rewards)
        judged = torch.isfinite(target)
        if judged.any():
            self._optimizer.zero_grad()
            nn.functional.mse_loss(self._model(items[judged]).squeeze(1), target[judged]).backward()
            self._optimizer.step()


LEARNERS: Mapping[str, Callable[[], EachFeedback]] = {
    "vowpal-wabbit": lambda: EachFeedback(VowpalWabbit()),
    "river": lambda: EachFeedback(River()),
    "pytorch": lambda: EachFeedback(PyTorch()),
}
"""By the option that asks for them."""
