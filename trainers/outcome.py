"""What versions did to the people they answered: reward by version, with intervals that hold at every look. Pure.

An answer counts for the version that gave it, whenever it is judged, and once: with the latest judgement of each
source, as everywhere. Versions are compared among answers that the same sources judged: one that was put into use a
moment ago has the quick judgements first, and those are others than the ones that follow.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import inf, log, sqrt
from statistics import NormalDist, fmean
from typing import Any, NamedTuple

from schemas.events import FeedbackSource
from schemas.records import Answer

CONFIDENCE = 0.95
ONE_LOOK = NormalDist().inv_cdf(CONFIDENCE)
"""Standard errors between an estimate and its one-sided bound, where nobody looks but once."""
TYPICAL_DIFFERENCE = 0.1
"""Size of the differences that intervals are tightest for."""
ENOUGH_ANSWERS = 30
"""Below so many on a side nothing is said: the intervals lean on the central limit theorem."""
MAX_ANSWERS = 20_000
"""Newest answers of a version that can still be judged otherwise; older ones count as they were judged last."""
MAX_VERSIONS = 50
"""Versions that are told apart; of more those go that nobody has judged for the longest time."""


def half_width(information: float) -> float:
    """Return how far the truth is at most from an estimate of this information (1 / its variance), at every look.

    The asymptotic confidence sequence of I. Waudby-Smith, D. Arbour, R. Sinha, E. H. Kennedy and A. Ramdas,
    "Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics 52 (2024), 2613-2640:
    Robbins' normal mixture with an estimated variance, here over deviations of size t = `TYPICAL_DIFFERENCE`. With
    information I and risk r = 1 - `CONFIDENCE` it is `sqrt((I + 1/t²)·(2·log(1/r) + log(1 + I·t²))) / I`, as
    information times estimate moves like a Brownian motion in I: that of a mean, and of a difference of means whichever
    side its answers come to (C. Jennison, B. W. Turnbull, "Group-sequential analysis incorporating covariate
    information", JASA 92 (1997), 1330-1341).
    """
    if information <= 0:
        return inf
    scaled = information * TYPICAL_DIFFERENCE**2
    return sqrt((1 + 1 / scaled) / information * (2 * log(1 / (1 - CONFIDENCE)) + log(1 + scaled)))


@dataclass(slots=True)
class Rewards:
    """Sums over rewards, which can be taken back."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, reward: float, times: int = 1) -> None:
        """Count a reward, or with -1 take it back."""
        self.count += times
        self.total += times * reward
        self.squares += times * reward * reward

    @property
    def mean(self) -> float:
        """Mean reward."""
        return self.total / self.count

    @property
    def information(self) -> float:
        """1 / variance of the mean; rewards span 2, and as if one had been seen at half of that, no spread is zero."""
        spread = max(0.0, self.squares - self.count * self.mean**2)
        return self.count * (self.count + 1) / (1 + spread)

    @classmethod
    def of(cls, parts: Iterable[Rewards]) -> Rewards:
        """Return the sums over several."""
        whole = cls()
        for part in parts:
            whole.count, whole.total = whole.count + part.count, whole.total + part.total
            whole.squares += part.squares
        return whole

    def as_dict(self) -> dict[str, Any]:
        """Return count, mean and interval, ready for JSON."""
        far = half_width(self.information) if self.count else inf
        low, high = (max(-1.0, self.mean - far), min(1.0, self.mean + far)) if self.count else (None, None)
        return {"answers": self.count, "reward": self.mean if self.count else None, "low": low, "high": high}


class Said(NamedTuple):
    """What is said of one half of an answer, plan or reply."""

    reward: float | None
    """Blended over the sources."""
    by_source: Mapping[FeedbackSource, float]


class VersionRewards:
    """The rewards of one version's answers."""

    def __init__(self) -> None:
        self.by_source: defaultdict[str, Rewards] = defaultdict(Rewards)
        """What each source said by itself."""
        self.by_judges: defaultdict[str, Rewards] = defaultdict(Rewards)
        """Blended rewards, by who judged: `evaluator+user`."""
        self._answers: OrderedDict[str, dict[str, Said]] = OrderedDict()

    def take(self, answer: Answer) -> None:
        """Take what was said of an answer; it replaces what was said of it before."""
        before = self._answers.pop(answer.experience_id, {})
        self._count(before, -1)
        now = self._answers[answer.experience_id] = {**before, answer.kind: Said(answer.reward, answer.said)}
        self._count(now, 1)
        if len(self._answers) > MAX_ANSWERS:
            self._answers.popitem(last=False)

    @property
    def whole(self) -> Rewards:
        """Blended rewards of all answers."""
        return Rewards.of(self.by_judges.values())

    def _count(self, said: Mapping[str, Said], times: int) -> None:
        by_source: defaultdict[str, list[float]] = defaultdict(list)
        for half in said.values():
            for source, reward in half.by_source.items():
                by_source[source].append(reward)
        blended = [half.reward for half in said.values() if half.reward is not None]
        if blended:
            self.by_judges["+".join(sorted(by_source))].add(fmean(blended), times)
        for name, rewards in by_source.items():
            self.by_source[name].add(fmean(rewards), times)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A version's reward less that of the one before it, among answers that the same sources judged."""

    difference: float
    low: float
    high: float
    answers: int
    answers_before: int
    error: float
    """Standard error of the difference."""

    def is_worse(self, margin: float) -> bool:
        """Whether the version is worse by more than a margin, whatever within the interval is true."""
        return self.high < -margin


def compare(version: VersionRewards, before: VersionRewards) -> Comparison | None:
    """Return the difference of two versions, weighted by the information on it; None with too few answers for one."""
    shared = [
        (mine, theirs)
        for judges, mine in version.by_judges.items()
        if mine.count and (theirs := before.by_judges.get(judges, Rewards())).count
    ]
    answers, answers_before = sum(mine.count for mine, _ in shared), sum(theirs.count for _, theirs in shared)
    if min(answers, answers_before) < ENOUGH_ANSWERS:
        return None
    weights = [1 / (1 / mine.information + 1 / theirs.information) for mine, theirs in shared]
    weighted = sum(w * (mine.mean - theirs.mean) for w, (mine, theirs) in zip(weights, shared, strict=True))
    difference, far = weighted / sum(weights), half_width(sum(weights))
    return Comparison(difference, difference - far, difference + far, answers, answers_before, 1 / sqrt(sum(weights)))


class OutcomeMonitor:
    """Takes judged answers, in the order of their judgements, and keeps the rewards of each version."""

    def __init__(self) -> None:
        self.versions: OrderedDict[str, VersionRewards] = OrderedDict()
        """By name, the one judged last at the end."""
        self.kept: frozenset[str] = frozenset()
        """Versions that stay however many others are judged."""
        self.unnamed = 0
        """Judgements of answers that name no version."""

    def answered(self, answer: Answer) -> None:
        """Take an answer as it is judged now."""
        name = answer.model_version
        if name is None:
            self.unnamed += 1
            return
        self.versions.setdefault(name, VersionRewards()).take(answer)
        self.versions.move_to_end(name)
        if len(self.versions) > MAX_VERSIONS:
            del self.versions[next(one for one in self.versions if one not in self.kept)]

    def compare(self, version: str, before: str) -> Comparison | None:
        """Return the difference of two versions; None where there are too few answers of one."""
        mine, theirs = self.versions.get(version), self.versions.get(before)
        return None if mine is None or theirs is None else compare(mine, theirs)

    def rewards(self, version: str) -> dict[str, Any]:
        """Return a version's rewards, all and by source, ready for JSON."""
        of = self.versions.get(version, VersionRewards())
        return {**of.whole.as_dict(), "sources": {name: r.as_dict() for name, r in of.by_source.items() if r.count}}


def as_dict(comparison: Comparison | None) -> dict[str, Any] | None:
    """Return a comparison ready for JSON."""
    return None if comparison is None else asdict(comparison)
