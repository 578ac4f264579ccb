"""Whether a newly trained version replaces the one in use: pure decisions on figures of held-out examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev

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


def mean_interval(values: Sequence[float], confidence: float) -> Interval | None:
    """Return mean and interval by Student's t: mean ± t(n-1)·s/√n; None for fewer than two values.

    For 1, 2, 3, 4 and 0.95: mean 2.5, s 1.291, t(3) 3.182, so 2.5 ± 2.054.
    """
    if len(values) < 2:
        return None
    mean = fmean(values)
    quantile = float(student_t.ppf((1 + confidence) / 2, len(values) - 1))
    half = quantile * stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half, len(values))


def decide(
    improvement: Interval | None, margin: float, regression: float | None, max_regression: float, unit: str
) -> Verdict:
    """Promote where the improvement's interval lies above the margin and the other tier's text is not much worse.

    Args:
        improvement: of the candidate on the version in use, over held-out prompts; above 0 is better.
        margin: what the lower end must exceed.
        regression: mean loss that the other tier's held-out text gains, in nats a token; None where there is none yet.
        max_regression: bound of it.
        unit: of the improvement, for the reason.
    """
    if improvement is None:
        return Verdict(False, "held-out examples of at least two prompts are needed to judge it")
    found = f"{improvement.mean:+.4f} [{improvement.low:+.4f}, {improvement.high:+.4f}] {unit}"
    on = f"on {improvement.count} held-out prompts"
    if not math.isfinite(improvement.mean):
        return Verdict(False, f"its figures {on} are not finite")
    if improvement.low <= margin:
        return Verdict(False, f"not shown to be better {on}: {found}, needed is above {margin:+.4f}")
    if regression is not None and not regression <= max_regression:
        return Verdict(
            False,
            f"better {on}: {found}, but the other tier's text loses {regression:.4f} nats a token, "
            f"more than {max_regression:.4f}",
        )
    return Verdict(True, f"better {on}: {found}")
