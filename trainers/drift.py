"""Detectors of drift in what people judge: for operators, beside the stream. Pure.

River has the same test; it is not used, since its import brings SciPy into every worker for twenty lines of arithmetic.
`tests/trainers/test_drift.py` holds that both raise the same alarms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FORGETTING = 0.9999
"""Weight of what was, at each value."""


@dataclass(frozen=True, slots=True)
class Test:
    """How far a series may stray."""

    delta: float
    """Change of the mean that does not matter, in the series' unit."""
    threshold: float
    """Sum of deviations beyond `delta` that raises the alarm."""
    down: bool = True
    """Whether a fall is an alarm too."""
    warm_up: int = 100
    """Values before which nothing is said."""


LOSS = Test(delta=0.1, threshold=15.0, down=False)
"""Progressive loss: a fall is learning. Figures: `benchmarks.drift`."""
RATE = Test(delta=0.15, threshold=15.0)
"""A share of something."""
RARE = Test(delta=0.1, threshold=10.0, down=False)
"""A share that is low, and whose fall is good."""


class PageHinkley:
    """Finds that the mean of a series has changed.

    E. S. Page, "Continuous inspection schemes", Biometrika 41 (1954), 100-115; D. V. Hinkley, "Inference about the
    change-point from cumulative sum tests", Biometrika 58 (1971), 509-523; with the forgetting factor of River's.
    After an alarm it begins anew, with the level that it has found.
    """

    def __init__(self, test: Test) -> None:
        self._test = test
        self.before = 0.0
        """Mean of what the last alarm found changed."""
        self._begin()

    def _begin(self) -> None:
        self.count, self.mean = 0, 0.0
        self._up = self._down = 0.0
        self._lowest, self._highest = float("inf"), float("-inf")

    def update(self, value: float) -> bool:
        """Take a value; say whether the mean has changed by now."""
        self.count += 1
        self.mean += (value - self.mean) / self.count
        deviation = value - self.mean
        self._up = FORGETTING * self._up + deviation - self._test.delta
        self._down = FORGETTING * self._down + deviation + self._test.delta
        self._lowest, self._highest = min(self._lowest, self._up), max(self._highest, self._down)
        if self.count < self._test.warm_up:
            return False
        rose = self._up - self._lowest > self._test.threshold
        fell = self._test.down and self._highest - self._down > self._test.threshold
        if rose or fell:
            self.before = self.mean
            self._begin()
        return rose or fell


def judgement_loss(scores: Sequence[float], rewards: Sequence[float | None]) -> float | None:
    """Return the mean squared error of scores against the rewards of the items that were judged; None without any."""
    errors = [(score - reward) ** 2 for score, reward in zip(scores, rewards, strict=True) if reward is not None]
    return sum(errors) / len(errors) if errors else None
