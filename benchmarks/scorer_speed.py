"""How fast the scorer learns on one core, beside Vowpal Wabbit, River and the machine's own matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.baselines import River, VowpalWabbit, item_features
from benchmarks.folds import Example
from schemas.settings import ScorerSettings
from trainers.scorer.architecture import HIDDEN, INPUTS
from trainers.scorer.learner import OnlineLearner

WARM, TIMED = 800, 2000
"""Feedbacks before and while the clock runs: the replay buffer is full by then."""


def matmul_gflops() -> float:
    """Return the best of several float32 matrix products of 512x813 by 813x512, in 1e9 operations a second."""
    torch.set_num_threads(1)
    one, other = torch.rand(512, INPUTS), torch.rand(INPUTS, 512)
    seconds = min(_timed(lambda: torch.mm(one, other)) for _ in range(50))
    return 2e-9 * 512 * 512 * INPUTS / seconds


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def step_flops(rows: int, rank: int) -> int:
    """Return the multiplications and additions of one update: forward, and backward at twice that, less the input's."""
    first, rest = INPUTS * rank, rank * HIDDEN + HIDDEN
    return 2 * rows * (2 * first + 3 * rest)


def _stream(settings: ScorerSettings, examples: Sequence[Example], groups: int) -> dict[str, Any]:
    """Learn the stream; return times of steps in microseconds, and pairs and samples a second."""
    learner, done = OnlineLearner(settings), 0
    times: list[float] = []
    entries = [example.entry for example in examples]
    while done < WARM + TIMED:
        chunk = entries[done : done + groups]
        if done >= WARM and not times:
            before = learner.life.as_dict()
        begun, step = time.perf_counter(), learner.step
        learner.apply(done, chunk)
        seconds = time.perf_counter() - begun
        done += groups
        if done > WARM and learner.step > step:
            times.append(seconds)
    after = learner.life.as_dict()
    total = sum(times)
    more = {name: after[name] - before[name] for name in ("pairs_ranked", "samples_learned", "groups_learned")}
    rows = more["samples_learned"] / len(times) + settings.replay_samples
    return {
        "step_us": {
            name: float(np.percentile(times, at)) * 1e6 for name, at in (("p10", 10), ("p50", 50), ("p99", 99))
        },
        "pairs_per_second": more["pairs_ranked"] / total,
        "feedbacks_per_second": more["groups_learned"] / total,
        "rows_per_step": rows,
        "flops_per_step": step_flops(round(rows), settings.rank),
    }


def _per_example(make: Callable[[], Any], examples: Sequence[Example]) -> float:
    """Return the median time to learn one item, in microseconds."""
    learner, times = make(), []
    for example in examples[:1000]:
        for features in item_features(example.entry):
            times.append(_timed(lambda f=features, g=example.row.good: learner.learn(f, g)))  # type: ignore[misc]
    return float(np.median(times)) * 1e6


def _score_one(settings: ScorerSettings, examples: Sequence[Example]) -> float:
    """Return the median time to score one item whose inputs are there, in microseconds."""
    model = OnlineLearner(settings).model
    rows = np.random.default_rng(0).random((1, INPUTS), np.float32)
    return float(np.median([_timed(lambda: model.scores(rows)) for _ in range(2000)])) * 1e6


def measure(examples: Sequence[Example]) -> dict[str, Any]:
    """Return the figures of one run, all on this core."""
    settings = ScorerSettings()
    gflops = matmul_gflops()
    single = _stream(settings, examples, 1)
    saturated = _stream(settings, examples, settings.groups_per_step)
    for figures in (single, saturated):
        figures["floor_us"] = figures["flops_per_step"] / gflops * 1e-3
    return {
        "matmul_gflops": gflops,
        "one_feedback_a_step": single,
        "saturated": saturated,
        "score_one_item_us": _score_one(settings, examples),
        "vowpal_wabbit_us_per_item": _per_example(lambda: VowpalWabbit(0.5), examples),
        "river_us_per_item": _per_example(lambda: River(0.03), examples),
    }
