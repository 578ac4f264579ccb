"""Within one plan: does the scorer find the hidden taste of the simulated control room?

Every widget has its own reward there, from users and evaluators with noise. What is asked is not whether the judgements
are guessed, but whether the widgets of plans that were never judged are in the order of their true worth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from statistics import fmean, stdev
from typing import Any

from benchmarks.folds import entry_of
from benchmarks.progress import Progressed
from schemas.records import ScorerEntry
from schemas.settings import RewardSettings, ScorerSettings
from streams.demo.room import Exchange, simulate
from trainers.embedding import Embedder, build_embedder
from trainers.prepare import prepare
from trainers.reward import Judgement, item_rewards
from trainers.scorer.learner import OnlineLearner

POINTS = (0, 10, 25, 50, 100, 200, 400, 800)
"""Judgements learned or held out, where the accuracy is taken."""
UNSEEN = 300
"""Plans of the same room, later, that nobody judges."""


def within_plan_accuracy(plans: Sequence[tuple[Exchange, ScorerEntry]], learner: OnlineLearner) -> float:
    """Return the share of a plan's widget pairs of different worth that are in the right order; a tie is half."""
    right, pairs = 0.0, 0
    for exchange, entry in plans:
        scores = dict(zip(entry.item_ids, learner.score(entry).tolist(), strict=True))
        widgets = [widget.widget_id for widget in exchange.experience.widget_plan]
        for one in widgets:
            for other in widgets:
                if exchange.worth[one] > exchange.worth[other]:
                    pairs += 1
                    right += (scores[one] > scores[other]) + 0.5 * (scores[one] == scores[other])
    return right / pairs


def _entry(exchange: Exchange, embedder: Embedder, number: int, judged: int) -> ScorerEntry:
    """Return the entry of an exchange after its first `judged` feedbacks, blended as the join does it."""
    items = prepare(exchange.experience, embedder)
    said = {feedback.source: Judgement.of(feedback) for feedback in exchange.feedback[:judged]}
    rewards = item_rewards(said, items.item_ids, items.item_types, RewardSettings()) if judged else ()
    return entry_of(exchange.experience, items, number, rewards)


def _judged(room: Sequence[Exchange], embedder: Embedder) -> Iterator[ScorerEntry]:
    number = 0
    for exchange in room:
        for judged in range(1, len(exchange.feedback) + 1):
            yield _entry(exchange, embedder, number, judged)
            number += 1


def curve(seed: int) -> list[float]:
    """Return the accuracy at each of `POINTS`, in a room whose taste follows from `seed`."""
    settings = ScorerSettings(seed=seed)
    embedder, learner = build_embedder(settings), OnlineLearner(settings)
    everything = simulate(seed, POINTS[-1] + UNSEEN, datetime(2026, 1, 1, tzinfo=UTC))
    unseen = [(one, _entry(one, embedder, 0, 0)) for one in everything[-UNSEEN:]]
    stream = _judged(everything[:-UNSEEN], embedder)
    found, done = [], 0
    for point in POINTS:
        while done < point:
            learner.apply(done, [next(stream)])
            done += 1
        found.append(within_plan_accuracy(unseen, learner))
    return found


def measure(seeds: int, progress: Progressed) -> dict[str, Any]:
    """Return the curve of several rooms, each with a taste of its own."""
    curves = []
    for seed in range(seeds):
        curves.append(curve(seed))
        progress(f"room {seed + 1} of {seeds}", (seed + 1) / seeds)
    return {
        "judgements": list(POINTS),
        "accuracy": [fmean(values) for values in zip(*curves, strict=True)],
        "over_rooms": [stdev(values) if seeds > 1 else None for values in zip(*curves, strict=True)],
        "rooms": seeds,
        "plans": UNSEEN,
    }
