"""How soon a worse version is found, and how often an equal one is taken for worse: `python -m benchmarks.outcome`.

A version that nobody has judged follows one with `before` judged answers; each judgement is looked at. Beside the
intervals in use: the predictable plug-in empirical Bernstein confidence sequence (I. Waudby-Smith, A. Ramdas,
"Estimating means of bounded random variables by betting", Journal of the Royal Statistical Society B 86 (2024), 1-27,
theorem 2), which holds for any count of bounded rewards, one for each version at half the risk.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, log, sqrt
from statistics import fmean, median
from typing import Any

from schemas.events import Candidate
from schemas.serving_settings import ServingSettings
from streams.audit.outcome import settled
from trainers.outcome import CONFIDENCE, VersionRewards, compare

SEEDS = 200
WITHIN = 400
MEAN = 0.3
SERVING = ServingSettings()
MARGIN = SERVING.worse_margin

Draw = Callable[[random.Random, float], float]


def graded(spread: float) -> Draw:
    """Rewards on a scale: normal, cut at -1 and 1."""
    return lambda rng, mean: min(1.0, max(-1.0, rng.gauss(mean, spread)))


def thumbs(rng: random.Random, mean: float) -> float:
    """Rewards of -1 or 1."""
    return 1.0 if rng.random() < (1 + mean) / 2 else -1.0


DRAWS: dict[str, Draw] = {f"graded, spread {spread}": graded(spread) for spread in (0.3, 0.5, 0.7)}
DRAWS["thumbs, -1 or 1"] = thumbs


class InUse:
    """The intervals in use."""

    def __init__(self) -> None:
        self._before, self._version = VersionRewards(), VersionRewards()

    def add(self, reward: float, *, before: bool = False) -> None:
        """Take a reward of the version, or of the one before."""
        (self._before if before else self._version).by_judges["user"].add(reward)

    def worse(self) -> bool:
        """Whether the version is worse by more than the margin."""
        found = compare(self._version, self._before)
        return found is not None and found.is_worse(MARGIN)


@dataclass(slots=True)
class Bernstein:
    """The empirical Bernstein interval of one version's mean; rewards are mapped to 0..1."""

    risk: float = (1 - CONFIDENCE) / 2
    count: int = 0
    total: float = 0.5
    squares: float = 0.25
    weights: float = 0.0
    weighted: float = 0.0
    cost: float = 0.0

    def add(self, reward: float) -> None:
        """Take a reward."""
        x, self.count = (reward + 1) / 2, self.count + 1
        mean, variance = self.total / self.count, self.squares / self.count
        rate = min(0.5, sqrt(2 * log(2 / self.risk) / (variance * self.count * log(1 + self.count))))
        self.weights, self.weighted = self.weights + rate, self.weighted + rate * x
        self.cost += (x - mean) ** 2 * (-log(1 - rate) - rate)
        self.total += x
        self.squares += (x - self.total / (self.count + 1)) ** 2

    def interval(self) -> tuple[float, float]:
        """Return where the mean lies."""
        if not self.count:
            return -inf, inf
        center, far = self.weighted / self.weights, (log(2 / self.risk) + self.cost) / self.weights
        return 2 * (center - far) - 1, 2 * (center + far) - 1


@dataclass(slots=True)
class BothBernstein:
    """A version is worse where the two intervals are apart."""

    _before: Bernstein = field(default_factory=Bernstein)
    _version: Bernstein = field(default_factory=Bernstein)

    def add(self, reward: float, *, before: bool = False) -> None:
        """Take a reward of the version, or of the one before."""
        (self._before if before else self._version).add(reward)

    def worse(self) -> bool:
        """Whether the version is worse by more than the margin."""
        return self._version.interval()[1] < self._before.interval()[0] - MARGIN


def found_after(method: type[InUse | BothBernstein], seed: int, draw: Draw, before: int, drop: float) -> int | None:
    """Return after how many judgements of the version it is found to be worse; None for not within `WITHIN`."""
    rng, judge = random.Random(seed), method()
    for _ in range(before):
        judge.add(draw(rng, MEAN), before=True)
    for number in range(1, WITHIN + 1):
        judge.add(draw(rng, MEAN - drop))
        if judge.worse():
            return number
    return None


def trial(seed: int, draw: Draw, before: int, drop: float, share: float) -> dict[str, Any]:
    """Return how a candidate's trial ends: `worse` or `taken`, after how many judgements, and who asked it.

    Answers to new queries are judged as they come; `before` answers of the version in use were judged before it began.
    """
    rng, in_use, tried = random.Random(seed), VersionRewards(), VersionRewards()
    candidate = Candidate(version=f"dpo-{seed}", path="", share=share)
    for _ in range(before):
        in_use.by_judges["user"].add(draw(rng, MEAN))
    asked = 0
    while True:
        asked += 1
        if not candidate.answers(f"query {asked}"):
            in_use.by_judges["user"].add(draw(rng, MEAN))
            continue
        tried.by_judges["user"].add(draw(rng, MEAN - drop))
        found = compare(tried, in_use)
        end = found and settled(found, MARGIN, SERVING.candidate_judgements)
        if end:
            count = tried.by_judges["user"].count
            return {"end": end, "judgements": count, "saw": count / asked}


def measure_trials(seeds: int = SEEDS, share: float = 0.1) -> list[dict[str, Any]]:
    """Return one row for each spread and drop: how trials at this share end."""
    rows = []
    for name, draw in DRAWS.items():
        for drop in (0.0, 0.1, 0.2):
            ends = [trial(seed, draw, 400, drop, share) for seed in range(seeds)]
            rows.append(
                {
                    "rewards": name,
                    "share": share,
                    "lower by": drop,
                    "went back": sum(one["end"] == "worse" for one in ends) / seeds,
                    "median judgements": median(one["judgements"] for one in ends),
                    "saw it, mean": fmean(one["saw"] for one in ends),
                    "saw it, most": max(one["saw"] for one in ends),
                }
            )
    return rows


def measure(seeds: int = SEEDS) -> list[dict[str, Any]]:
    """Return one row for each spread, count of judgements before and method."""
    rows = []
    for name, draw in DRAWS.items():
        for before in (400, 2000):
            for method in (InUse, BothBernstein):
                runs = {
                    drop: [found_after(method, seed, draw, before, drop) for seed in range(seeds)]
                    for drop in (0.0, 0.1, 0.2)
                }
                found = {drop: [after for after in run if after is not None] for drop, run in runs.items()}
                row: dict[str, Any] = {"rewards": name, "before": before, "method": method.__name__}
                row |= {f"found at -{drop}": len(of) / seeds for drop, of in found.items()}
                rows.append({**row, "median at -0.2": median(found[0.2]) if found[0.2] else None})
    return rows


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS
    print(json.dumps({"in use": measure(number), "trials": measure_trials(number)}, indent=1))
