"""Detectors of drift in what people judge: for operators, beside the stream. Pure.

River has the same test; it is not used, since its import brings SciPy into every worker for twenty lines of arithmetic.
`tests/trainers/test_drift.py` holds that both raise the same alarms.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from schemas.events import Feedback, ScoreUpdate
from schemas.records import Answer
from trainers.reward import Judgement, item_judgements

MAX_WAITING = 10_000
"""Feedbacks that may wait for their score update."""
NEWEST_REWARDS = 200
"""Rewards of a source that its mean is taken over."""
MAX_INTENTS = 500
"""Intent types that are told apart."""
UNKNOWN = "unknown"
"""Intent type of a query that the assistant could not place."""

FORGETTING = 0.9999
"""Weight of what was, at each value."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a series may stray."""

    delta: float
    """Change of the mean that does not matter, in the series' unit."""
    threshold: float
    """Sum of deviations beyond `delta` that raises the alarm."""
    down: bool = True
    """Whether a fall is an alarm too."""
    warm_up: int = 100
    """Values before which nothing is said."""


LOSS = Tolerance(delta=0.1, threshold=15.0, down=False)
"""Progressive loss: a fall is learning. Figures: `benchmarks.drift`."""
RATE = Tolerance(delta=0.15, threshold=15.0)
"""A share of something."""
RARE = Tolerance(delta=0.1, threshold=10.0, down=False)
"""A share that is low, and whose fall is good."""


class PageHinkley:
    """Finds that the mean of a series has changed.

    E. S. Page, "Continuous inspection schemes", Biometrika 41 (1954), 100-115; D. V. Hinkley, "Inference about the
    change-point from cumulative sum tests", Biometrika 58 (1971), 509-523; with the forgetting factor of River's.
    After an alarm it begins anew, with the level that it has found.
    """

    def __init__(self, tolerance: Tolerance) -> None:
        self._tolerance = tolerance
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
        self._up = FORGETTING * self._up + deviation - self._tolerance.delta
        self._down = FORGETTING * self._down + deviation + self._tolerance.delta
        self._lowest, self._highest = min(self._lowest, self._up), max(self._highest, self._down)
        if self.count < self._tolerance.warm_up:
            return False
        rose = self._up - self._lowest > self._tolerance.threshold
        fell = self._tolerance.down and self._highest - self._down > self._tolerance.threshold
        if rose or fell:
            self.before = self.mean
            self._begin()
        return rose or fell


def judgement_loss(scores: Sequence[float], rewards: Sequence[float | None]) -> float | None:
    """Return the mean squared error of scores against the rewards of the items that were judged; None without any."""
    errors = [(score - reward) ** 2 for score, reward in zip(scores, rewards, strict=True) if reward is not None]
    return sum(errors) / len(errors) if errors else None


@dataclass(frozen=True, slots=True)
class Alarm:
    """A series whose mean has changed."""

    series: str
    """`progressive_loss`, `reward_rate` or `unknown_intents`."""
    of: str
    """`source=user` or `intent=status`, where the series is of one of these; else empty."""
    at: float
    """Broker time of the record that raised it, in epoch seconds."""
    before: float
    """Mean up to it."""
    experience_id: str
    """Of that record."""


class DriftMonitor:
    """Takes what was judged, in the broker's order as far as it is known, and keeps the newest alarm of each series."""

    def __init__(self) -> None:
        self.alarms: dict[tuple[str, str], Alarm] = {}
        self.newest_judgement: float | None = None
        """Broker time in epoch seconds; None where nothing was judged yet."""
        self.unjudged = 0
        """Experiences that were scored since."""
        self._detectors: dict[tuple[str, str], PageHinkley] = {}
        self._waiting: OrderedDict[str, Judgement] = OrderedDict()
        self._intents: set[str] = set()
        self._rewards: dict[str, deque[float]] = {}

    def judged(self, feedback: Feedback, at: float) -> None:
        """Take a feedback: its source's reward rate, the newest judgement."""
        judgement = Judgement.of(feedback)
        self._waiting[feedback.feedback_id] = judgement
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popitem(last=False)
        said = [feedback.reward, feedback.voice_reward, *(one.reward for one in feedback.per_widget_feedback)]
        if rewards := [reward for reward in said if reward is not None]:
            reward = fmean(rewards)
            self._rewards.setdefault(feedback.source, deque(maxlen=NEWEST_REWARDS)).append(reward)
            good = float(reward > 0)
            self._take("reward_rate", f"source={feedback.source}", RATE, good, at, feedback.experience_id)
        if self.newest_judgement is None or at > self.newest_judgement:
            self.newest_judgement, self.unjudged = at, 0

    def scored(self, update: ScoreUpdate, at: float) -> None:
        """Take a score update: the loss of the scores before the feedback was learned."""
        self.unjudged += update.reason == "experience_arrived" and at > (self.newest_judgement or 0.0)
        judgement = self._waiting.pop(update.feedback_id or "", None)
        if judgement is None:
            return
        own = item_judgements(
            judgement, [item.item_id for item in update.items], [item.item_type for item in update.items]
        )
        befores = [item.score if item.previous_score is None else item.previous_score for item in update.items]
        if (loss := judgement_loss(befores, own)) is not None:
            self._take("progressive_loss", "", LOSS, loss, at, update.experience_id)

    def answered(self, answer: Answer, at: float) -> None:
        """Take a judged answer: its intent's reward rate, and whether the intent is known."""
        new = answer.intent_type not in self._intents
        is_unknown = float(new or answer.intent_type == UNKNOWN)
        self._take("unknown_intents", "", RARE, is_unknown, at, answer.experience_id)
        if new and len(self._intents) >= MAX_INTENTS:
            return
        self._intents.add(answer.intent_type)
        if answer.reward is not None:
            good = float(answer.reward > 0)
            self._take("reward_rate", f"intent={answer.intent_type}", RATE, good, at, answer.experience_id)

    def as_dict(self) -> Mapping[str, Any]:
        """Return all that is to be told, ready for JSON."""
        return {
            "alarms": [asdict(alarm) for alarm in self.alarms.values()],
            "newest_judgement": self.newest_judgement,
            "unjudged": self.unjudged,
            "rewards": {source: fmean(newest) for source, newest in self._rewards.items()},
        }

    def _take(self, series: str, of: str, tolerance: Tolerance, value: float, at: float, experience_id: str) -> None:
        detector = self._detectors.get((series, of))
        if detector is None:
            detector = self._detectors[series, of] = PageHinkley(tolerance)
        if detector.update(value):
            self.alarms[series, of] = Alarm(series, of, at, detector.before, experience_id)
