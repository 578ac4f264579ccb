"""Reward by version: what counts where, the interval by hand, and how often a worse version is found."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import log, sqrt

import pytest

from schemas.events import FeedbackSource, PairKind
from schemas.records import Answer
from trainers.outcome import (
    ENOUGH_ANSWERS,
    MAX_VERSIONS,
    OutcomeMonitor,
    Rewards,
    VersionRewards,
    compare,
    half_width,
)

MARGIN = 0.02
"""`serving.worse_margin` as it is by default."""
SEEDS = 200


def answer(
    number: int,
    version: str | None,
    reward: float,
    said: dict[FeedbackSource, float] | None = None,
    kind: PairKind = "voice",
) -> Answer:
    return Answer(
        kind=kind,
        experience_id=f"e{number}",
        query="q",
        intent_type="status",
        domains=(),
        device_types=(),
        reward=reward,
        judged_by_user=True,
        said={"user": reward} if said is None else said,
        model_version=version,
    )


def test_the_interval_is_robbins_mixture_at_the_estimated_variance() -> None:
    # I = 400: sqrt((400 + 100)·(2·log 20 + log 5)) / 400, with 1/t² = 100.
    assert half_width(400.0) == pytest.approx(sqrt(500 * (2 * log(20) + log(5))) / 400)
    rewards = Rewards()
    for reward in (1.0, 0.0, 0.5):
        rewards.add(reward)
    # n·(n + 1) / (1 + Σ(x - mean)²), with a sum of squares of 1.25 - 3·0.25.
    assert (rewards.mean, rewards.information) == (0.5, pytest.approx(12 / 1.5))


def test_a_late_judgement_counts_for_the_version_that_answered_and_an_answer_counts_once_with_the_latest() -> None:
    monitor = OutcomeMonitor()
    monitor.answered(answer(1, "dpo-a", 0.5))
    monitor.answered(answer(2, "dpo-b", -0.5))
    monitor.answered(answer(3, "dpo-a", 0.1))  # late: dpo-b answers by now
    monitor.answered(answer(1, "dpo-a", -1.0))  # judged otherwise
    told = {name: monitor.rewards(name) for name in ("dpo-a", "dpo-b", "dpo-c")}
    assert {name: (of["answers"], of["reward"]) for name, of in told.items()} == {
        "dpo-a": (2, pytest.approx(-0.45)),
        "dpo-b": (1, -0.5),
        "dpo-c": (0, None),
    }
    assert list(monitor.versions) == ["dpo-b", "dpo-a"]


def test_plan_and_reply_of_an_answer_count_as_one_and_each_source_by_itself() -> None:
    monitor = OutcomeMonitor()
    monitor.answered(answer(1, "dpo-a", 0.8, {"user": 1.0, "evaluator": 0.4}, kind="widget"))
    monitor.answered(answer(1, "dpo-a", -0.2, {"evaluator": -0.2}))
    told = monitor.rewards("dpo-a")
    assert (told["answers"], told["reward"]) == (1, pytest.approx(0.3))
    assert {name: (of["answers"], of["reward"]) for name, of in told["sources"].items()} == {
        "user": (1, 1.0),
        "evaluator": (1, pytest.approx(0.1)),
    }


def test_what_names_no_version_is_counted_apart_and_junk_names_push_no_version_out_that_is_needed() -> None:
    monitor = OutcomeMonitor()
    monitor.kept = frozenset({"dpo-a"})
    monitor.answered(answer(0, None, 1.0))
    for number in range(3 * MAX_VERSIONS):
        monitor.answered(answer(number, "dpo-a" if number == 0 else f"junk-{number}", 1.0))
    assert monitor.unnamed == 1
    assert len(monitor.versions) == MAX_VERSIONS
    assert "dpo-a" in monitor.versions
    assert f"junk-{3 * MAX_VERSIONS - 1}" in monitor.versions
    assert "junk-1" not in monitor.versions


def filled(*parts: tuple[int, float, dict[FeedbackSource, float]]) -> VersionRewards:
    """Return a version's rewards: so many answers of each reward and sources."""
    version, number = VersionRewards(), 0
    for count, reward, said in parts:
        for _ in range(count):
            version.take(answer(number, "any", reward, said))
            number += 1
    return version


def test_versions_are_compared_among_answers_that_the_same_sources_judged() -> None:
    # Users judge both alike; the newer one has the quick implicit judgements first, which count less.
    before = filled((300, 0.5, {"user": 0.5}), (20, 0.1, {"implicit": 0.3}))
    version = filled((50, 0.5, {"user": 0.5}), (300, 0.1, {"implicit": 0.3}))
    assert version.whole.mean < before.whole.mean - 0.2
    found = compare(version, before)
    assert found is not None
    assert found.difference == pytest.approx(0.0)
    assert (found.answers, found.answers_before) == (350, 320)
    worse = compare(filled((100, 0.1, {"user": 0.1})), before)
    assert worse is not None
    assert worse.is_worse(0.2)
    assert not worse.is_worse(0.4)


def test_of_too_few_answers_nothing_is_said() -> None:
    before = filled((ENOUGH_ANSWERS, 1.0, {"user": 1.0}))
    assert compare(filled((ENOUGH_ANSWERS - 1, -1.0, {"user": -1.0})), before) is None
    assert compare(filled((500, -1.0, {"evaluator": -1.0})), before) is None
    assert compare(filled((ENOUGH_ANSWERS, -1.0, {"user": -1.0})), before) is not None


def graded(rng: random.Random, mean: float) -> float:
    """Draw a reward of -1 to 1: normal, spread 0.5, cut at the ends."""
    return min(1.0, max(-1.0, rng.gauss(mean, 0.5)))


def found_worse_after(seed: int, drop: float, draw: Callable[[random.Random, float], float]) -> int | None:
    """Return after how many of 400 judgements, each looked at, a version is worse than one with 400 before it."""
    rng, monitor = random.Random(seed), OutcomeMonitor()
    for number in range(400):
        monitor.answered(answer(number, "dpo-a", draw(rng, 0.3)))
    for number in range(400, 800):
        monitor.answered(answer(number, "dpo-b", draw(rng, 0.3 - drop)))
        found = monitor.compare("dpo-b", "dpo-a")
        if found is not None and found.is_worse(MARGIN):
            return number - 399
    return None


def test_a_version_that_people_like_less_by_a_fifth_is_found_and_an_equal_one_is_left_alone() -> None:
    worse = [found_worse_after(seed, 0.2, graded) for seed in range(SEEDS)]
    equal = [found_worse_after(seed, 0.0, graded) for seed in range(SEEDS)]
    assert sum(found is not None for found in worse) >= 0.95 * SEEDS
    assert sum(found is not None for found in equal) <= 0.05 * SEEDS
