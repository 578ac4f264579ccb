"""The learners that users of other engines would have: linear ones of Vowpal Wabbit and River, a network of PyTorch.

Each feedback is scored, learned (an example an item, its reward the label), and scored again, one after the other as it
comes. Nothing is replayed, ranked or held out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

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
    """Scores rows of 813 inputs and learns their rewards."""

    def score(self, rows: np.ndarray) -> list[float]:
        """Return a score a row."""
        ...

    def learn(self, rows: np.ndarray, rewards: np.ndarray) -> None:
        """Take one step, or one a row."""


class EachFeedback:
    """Lets a model learn one feedback after the other."""

    def __init__(self, model: Model) -> None:
        self._model, self._step = model, 0

    def learn(self, joined: list[Joined]) -> Messages:
        """Return the score updates."""
        return [(one.experience_id.encode(), self._update(one)) for one in joined]

    def _update(self, one: Joined) -> bytes:
        rows, previous, reason = _rows(one.known.features), None, "experience_arrived"
        scores = self._model.score(rows)
        if one.feedback_id is not None:
            rewards = np.array(one.rewards, np.float32)  # None becomes NaN
            judged = np.isfinite(rewards)
            if judged.any():
                self._model.learn(rows[judged], rewards[judged])
                self._step += 1
            previous, scores, reason = tuple(scores), self._model.score(rows), "feedback_learned"
        scored = Scored(entry_of(one, 0), reason, self._step, tuple(scores), previous)  # type: ignore[arg-type]
        return encode_update(scored, 1, "peer", time.time())


def _rows(features: bytes) -> np.ndarray:
    vectors = np.frombuffer(features, "<f4")
    items = vectors[EMBEDDING_SIZE:].reshape(-1, FEATURES_PER_ITEM)
    return np.hstack((np.broadcast_to(vectors[:EMBEDDING_SIZE], (len(items), EMBEDDING_SIZE)), items))


class VowpalWabbit:
    """Its default learner: squared loss, adaptive, normalised and invariant updates."""

    def __init__(self) -> None:
        self._model = Workspace("--quiet -b 12")

    def score(self, rows: np.ndarray) -> list[float]:
        """Return a score a row."""
        return [float(self._model.predict(_text(row))) for row in rows]

    def learn(self, rows: np.ndarray, rewards: np.ndarray) -> None:
        """Take one step a row."""
        for row, reward in zip(rows, rewards.tolist(), strict=True):
            self._model.learn(f"{reward:.6g} {_text(row)}")


def _text(row: np.ndarray) -> str:
    places = np.flatnonzero(row)
    return "|f " + " ".join(map("{}:{:.6g}".format, places.tolist(), row[places].tolist()))


class River:
    """Linear regression by gradient descent, River's default."""

    def __init__(self) -> None:
        self._model = linear_model.LinearRegression(optimizer=optim.SGD(0.01))

    def score(self, rows: np.ndarray) -> list[float]:
        """Return a score a row."""
        return [float(self._model.predict_one(_sparse(row))) for row in rows]

    def learn(self, rows: np.ndarray, rewards: np.ndarray) -> None:
        """Take one step a row."""
        for row, reward in zip(rows, rewards.tolist(), strict=True):
            self._model.learn_one(_sparse(row), reward)


def _sparse(row: np.ndarray) -> dict[int, float]:
    places = np.flatnonzero(row)
    return dict(zip(places.tolist(), row[places].tolist(), strict=True))


class PyTorch:
    """A network of our size, Adam, mean squared error: `zero_grad`, `backward` and `step` for each feedback."""

    def __init__(self) -> None:
        settings = Settings().scorer
        torch.manual_seed(0)
        rank = nn.Linear(INPUTS, settings.rank, bias=False)
        self._model = nn.Sequential(rank, nn.Linear(settings.rank, 64), nn.ReLU(), nn.Linear(64, 1))
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=settings.learning_rate)

    def score(self, rows: np.ndarray) -> list[float]:
        """Return a score a row."""
        with torch.no_grad():
            found: list[float] = self._model(torch.from_numpy(rows)).squeeze(1).tolist()
        return found

    def learn(self, rows: np.ndarray, rewards: np.ndarray) -> None:
        """Take one step."""
        self._optimizer.zero_grad()
        loss = nn.functional.mse_loss(self._model(torch.from_numpy(rows)).squeeze(1), torch.from_numpy(rewards))
        loss.backward()
        self._optimizer.step()


LEARNERS: Mapping[str, Callable[[], EachFeedback]] = {
    "vowpal-wabbit": lambda: EachFeedback(VowpalWabbit()),
    "river": lambda: EachFeedback(River()),
    "pytorch": lambda: EachFeedback(PyTorch()),
}
"""By the option that asks for them."""
