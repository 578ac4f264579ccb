"""Whether a newly trained version replaces the one in use: pure decisions on figures of held-out examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from statistics import fmean, stdev
from typing import Literal

import numpy as np
from pydantic import JsonValue
from scipy.stats import t as student_t


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its two-sided confidence interval."""

    mean: float
    low: float
    high: float
    count: int
    """Independent observations."""

    def figures(self) -> dict[str, JsonValue]:
        """Return the fields as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision, with its reason in one line."""

    promoted: bool
    reason: str


def means_of_prompts(values: Sequence[float], prompts: Sequence[str]) -> list[float]:
    """Return one mean a prompt: answers to one prompt are alike, so they are one observation, not several."""
    by_prompt: dict[str, list[float]] = {}
    for value, prompt in zip(values, prompts, strict=True):
        by_prompt.setdefault(prompt, []).append(value)
    return [fmean(group) for group in by_prompt.values()]


def fewest_prompts(confidence: float) -> int:
    """Return the least number of held-out prompts on which anything can be shown: 6 at a confidence of 0.95.

    Of n prompts that noise pushes either way, all fall on the better side once in 2^n. That is to be no more likely
    than an interval of this confidence lies above 0 by chance: 2^-n <= (1 - confidence) / 2, and 1/64 <= 0.025 < 1/32.
    """
    return max(2, math.ceil(math.log2(2 / (1 - confidence))))


def chance_of(confidence: float) -> float:
    """Return how likely noise may lie on the better side, the same at every number of prompts: 1/64 at 0.95."""
    return 2.0 ** -fewest_prompts(confidence)


def mean_interval(values: Sequence[float], confidence: float) -> Interval | None:
    """Return the mean with the wider of two intervals at each end; None for fewer values than `fewest_prompts`.

    Each end is wrong as seldom as at the fewest prompts, where one cannot ask for less: `chance_of`.

    Student's t, mean ± t(n-1)·s/√n, is right for many values, and far too narrow for a few that agree in size and only
    differ in sign, as they do where answers were swapped at random. The interval of Wilcoxon's signed ranks (Hodges and
    Lehmann 1963) is exact at any number of values whose signs are a matter of chance, and needs no normal distribution.
    """
    if len(values) < fewest_prompts(confidence):
        return None
    mean = fmean(values)
    quantile = float(student_t.ppf(1 - chance_of(confidence), len(values) - 1))
    half = quantile * stdev(values) / math.sqrt(len(values))
    low, high = signed_rank_interval(values, confidence)
    return Interval(mean, min(mean - half, low), max(mean + half, high), len(values))


def signed_rank_interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Return the interval of the centre: the mean of each two values, sorted, as many left off at each end as may be.

    For six values that is none: P(W = 0) = 1/64, P(W <= 1) = 2/64, so their least and greatest.

    Args:
        values: at least `fewest_prompts` of them.
        confidence: of the interval.
    """
    ordered = np.asarray(values, dtype=float)
    first, second = np.triu_indices(len(ordered))
    averages = np.sort((ordered[first] + ordered[second]) / 2)
    off = _left_off(len(ordered), chance_of(confidence))
    return float(averages[off]), float(averages[-1 - off])


@lru_cache(maxsize=64)
def _left_off(count: int, chance: float) -> int:
    """Return the greatest w with P(W <= w) <= chance, W the sum of the ranks of those on the worse side."""
    chances = np.ones(1)
    for rank in range(1, count + 1):  # of each sum of ranks, where each sign is a coin's
        chances = (np.pad(chances, (0, rank)) + np.pad(chances, (rank, 0))) / 2
    return int(np.searchsorted(np.cumsum(chances), chance, side="right")) - 1


@dataclass(frozen=True, slots=True)
class Regression:
    """What the other tier's held-out examples lose, and how much they may."""

    what: str
    """Of which of them, for the reason."""
    loss: float | None
    """Mean, above 0 where the candidate is worse than the version in use; None where there are none yet."""
    bound: float
    unit: str


def decide(
    improvement: Interval | None,
    margin: float,
    regressions: Sequence[Regression],
    unit: str,
    *,
    beyond_form: Interval | Literal["not asked"] | None = "not asked",
    fewest: int = 6,
) -> Verdict:
    """Promote where the improvement's interval lies above the margin and the other tier's figures are not much worse.

    Args:
        improvement: of the candidate on the version in use, over held-out prompts; above 0 is better; None for too few.
        margin: what the lower end must exceed.
        regressions: figures of the other tier.
        unit: of the improvement, for the reason.
        beyond_form: what each held-out answer gains more after its own prompt than after others'; must be above 0.
        fewest: prompts that it takes, for the reason.
    """
    if improvement is None:
        return Verdict(False, f"held-out examples of at least {fewest} prompts are needed to judge it")
    found = f"{_said(improvement)} {unit}"
    on = f"on {improvement.count} held-out prompts"
    if not math.isfinite(improvement.mean):
        return Verdict(False, f"its figures {on} are not finite")
    if improvement.low <= margin:
        return Verdict(False, f"not shown to be better {on}: {found}, needed is above {margin:+.4f}")
    if beyond_form is None:
        return Verdict(False, f"better {on}: {found}, but too few to tell whether by more than its answers' form")
    if beyond_form != "not asked" and not beyond_form.low > 0:
        return Verdict(
            False,
            f"better {on}: {found}, but not shown to be by more than its answers' form: after its own prompt an answer "
            f"gains {_said(beyond_form)} {unit} more than after others'",
        )
    for one in regressions:
        if one.loss is not None and not one.loss <= one.bound:
            lost = f"{one.what} lose {one.loss:.4f} {one.unit}, more than {one.bound:.4f}"
            return Verdict(False, f"better {on}: {found}, but {lost}")
    unseen = [one.what for one in regressions if one.loss is None]
    return Verdict(True, f"better {on}: {found}" + (f"; no {unseen[0]} yet to see what they lose" if unseen else ""))


def _said(interval: Interval) -> str:
    return f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
