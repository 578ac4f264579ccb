"""What scoring costs a consumer that ranks in-process: one item, and many, after features and with them.

Run: `python -m benchmarks.scorer_serving`
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from benchmarks.machine import in_words, machine
from schemas.ranking import RankRequest
from schemas.settings import ScorerSettings
from trainers.scorer.learner import OnlineLearner
from trainers.scorer.ranking import embedder_of, rank
from trainers.scorer.serving import FrozenScorer
from trainers.scorer.snapshot import Snapshot

ROUNDS = 15
LIMIT_MICROSECONDS = 15.0
"""Of one item, after features."""


def microseconds(work: Callable[[], object], times: int) -> float:
    """Return the mean time of a call in the round that was disturbed least, in microseconds."""
    for _ in range(times // 10 + 1):
        work()
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(times):
            work()
        found.append((time.perf_counter() - began) / times * 1e6)
    return min(found)


def measure(rank_of_layer: int) -> dict[str, float]:
    """Return microseconds a call, by what is called."""
    settings = ScorerSettings(rank=rank_of_layer)
    learner = OnlineLearner(settings)
    snapshot = Snapshot.of(learner)
    scorer = FrozenScorer(snapshot.arrays, snapshot.meta)
    rng = np.random.default_rng(0)
    query, items = rng.random(384, np.float32), rng.random((100, 429), np.float32)
    row = np.concatenate((query, items[0]))[None, :]
    candidates = [{"item_id": str(n), "widget_type": "gauge", "text": f"pressure of pump {n}"} for n in range(10)]
    request = RankRequest.model_validate(
        {"query": "how is pump 3", "intent": {"type": "status"}, "candidates": candidates}
    )
    embedder = embedder_of(scorer, settings)
    return {
        "one item": microseconds(lambda: scorer.score_one(query, items[0]), 5000),
        "one item, the learner's own path": microseconds(lambda: learner.model.scores(row), 5000),
        "100 items": microseconds(lambda: scorer.score_rows(query, items), 1000),
        "10 candidates with their features": microseconds(lambda: rank(scorer, embedder, request), 100),
    }


def main() -> int:
    """Print the table; 1 where one item takes longer than it may."""
    print(in_words(machine()))
    figures = {rank_of_layer: measure(rank_of_layer) for rank_of_layer in (8, 32)}
    print(f"{'microseconds':36}" + "".join(f"{f'rank {rank_of_layer}':>10}" for rank_of_layer in figures))
    for name in figures[32]:
        print(f"{name:36}" + "".join(f"{row[name]:10.1f}" for row in figures.values()))
    one = figures[32]["one item"]
    verdict = "within" if one <= LIMIT_MICROSECONDS else "beyond"
    print(f"one item at rank 32: {one:.1f} us, {verdict} the limit of {LIMIT_MICROSECONDS:g} us")
    return int(one > LIMIT_MICROSECONDS)


if __name__ == "__main__":
    raise SystemExit(main())
