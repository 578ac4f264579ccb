"""How learning goes: counts, the progressive window and the plateau decay."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from schemas.settings import ScorerSettings
from trainers.scorer.loss import Doubles, ranking_loss
from trainers.scorer.samples import Floats, Samples, Words, places_in


@dataclass(slots=True)
class Counts:
    """What the scorer did with its entries."""

    steps: int = 0
    """Optimizer updates."""
    groups_learned: int = 0
    samples_learned: int = 0
    pairs_ranked: int = 0
    groups_held_out: int = 0
    samples_held_out: int = 0
    arrived_scored: int = 0
    duplicates: int = 0
    """Entries whose origin had been applied before."""
    skipped_not_finite: int = 0
    """Entries with NaN, infinite or boundless vectors or rewards."""
    skipped_no_reward: int = 0
    """Feedbacks without a reward for any item."""
    skipped_no_features: int = 0
    """Feedbacks on an experience whose features the retained stream does not hold any more."""
    skipped_updates: int = 0
    """Steps whose loss was not finite: no update."""
    decays: int = 0
    """Plateau decays that took effect."""
    decays_at_floor: int = 0
    """Plateau decays that found the learning rate at its floor."""

    def add(self, more: dict[str, int]) -> None:
        """Raise counts by name."""
        for name, value in more.items():
            if value:
                setattr(self, name, getattr(self, name) + value)

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


class PlateauDecay:
    """Halves the learning rate where validation has stopped to improve, down to a floor."""

    def __init__(self, settings: ScorerSettings) -> None:
        self._patience, self._floor = settings.plateau_patience, settings.min_learning_rate
        self._start = self.learning_rate = settings.learning_rate
        self.best = float("inf")
        self.rounds_without = 0

    def add(self, loss: float) -> str | None:
        """Take a validation loss in; return the count that a decay belongs to, `decays` or `decays_at_floor`."""
        if loss < self.best * (1.0 - 1e-4):
            self.best, self.rounds_without = loss, 0
            return None
        self.rounds_without += 1
        if self.rounds_without < self._patience:
            return None
        self.rounds_without = 0
        if self.learning_rate <= self._floor:
            return "decays_at_floor"
        self.learning_rate = max(self.learning_rate / 2, self._floor)
        return "decays"

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        best = None if self.best == float("inf") else self.best
        return {
            "start": self._start,
            "learning_rate": self.learning_rate,
            "best": best,
            "rounds_without": self.rounds_without,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`; a learning rate that was set anew since takes effect."""
        if state["start"] == self._start:
            self.learning_rate = max(state["learning_rate"], self._floor)
        self.rounds_without = state["rounds_without"]
        self.best = float("inf") if state["best"] is None else state["best"]


QUANTILES = ("0.05", "0.25", "0.5", "0.75", "0.95")


def note_on(rewards: Floats) -> str | None:
    """Say why a validation tells little: a falling loss over such rewards is no sign of learning what is better."""
    if np.ptp(rewards) == 0:
        return "all held-out rewards are equal: there is nothing to rank"
    if rewards.min() >= 0 or rewards.max() <= 0:
        return "held-out rewards never change sign: nobody disliked, or liked, anything"
    return None


class ProgressiveWindow:
    """Score, then learn: how well the newest samples were ranked and estimated before they were learned.

    Each sample is compared with the earlier ones in the window that share its intent and differ in reward. That is
    worked out where somebody asks: to take samples in costs next to nothing.
    """

    COLUMNS = ("score", "reward", "intent")

    def __init__(self, size: int = 500) -> None:
        self._size = size
        self._rows = np.zeros((0, len(self.COLUMNS)))
        self._latest: list[tuple[Floats, Floats, Words]] = []
        """What came since somebody asked, or since it was put by."""

    def add(self, samples: Samples, scores: Floats) -> None:
        """Take in samples with the scores that they had before they were learned."""
        self._latest.append((scores, samples.rewards, samples.intents))
        if len(self._latest) >= self._size:
            self._put_by()

    def _put_by(self) -> None:
        """Take what came of late into the rows."""
        if self._latest:
            score, reward, intent = map(np.concatenate, zip(*self._latest, strict=True))
            # 53 bits of the intent's hash are enough to tell intents apart, and exact in a double.
            fresh = np.array((score, reward, intent >> np.uint64(11)), np.float64).T
            self._rows = np.concatenate((self._rows, fresh))[-self._size :]
            self._latest.clear()

    def figures(self, pointwise_weight: float) -> dict[str, float | int | None]:
        """Return accuracy and loss over the window; None where it has no pairs or no samples."""
        count = len(self.rows)
        score, reward, intent = self.rows.T.copy()
        usable = (intent[:, None] == intent) & (reward[:, None] > reward)
        loss = ranking_loss(score, reward, *places_in(usable), pointwise_weight) if count else None
        return {
            "progressive_accuracy": loss.correct / loss.pairs if loss and loss.pairs else None,
            "progressive_loss": loss.value if loss else None,
            "progressive_pairs": loss.pairs if loss else 0,
        }

    def score_quantiles(self) -> dict[str, float]:
        """Return how the window's scores are spread, by quantile; empty without samples."""
        if not len(self.rows):
            return {}
        values = np.quantile(self.rows[:, 0], [float(name) for name in QUANTILES])
        return dict(zip(QUANTILES, values.tolist(), strict=True))

    @property
    def rows(self) -> Doubles:
        """All that a checkpoint needs."""
        self._put_by()
        return self._rows

    def restore(self, rows: Doubles) -> None:
        """Go on from another window's rows."""
        self._latest.clear()
        self._rows = rows.copy()
