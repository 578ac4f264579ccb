"""Is a change of taste noticed, and nothing where there is none? `python -m benchmarks.drift`.

The simulated control room is learned as the worker learns it, one feedback a step, and each feedback's progressive
loss goes through the detector that the audit and the metrics use. In one part the hidden taste flips in mid-stream, in
rooms of as many seeds; in the other nothing changes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import Any

from benchmarks.folds import entry_of
from schemas.settings import RewardSettings, ScorerSettings
from streams.demo.room import simulate
from trainers.drift import LOSS, PageHinkley, judgement_loss
from trainers.embedding import build_embedder
from trainers.prepare import prepare
from trainers.reward import Judgement, item_judgements, item_rewards
from trainers.scorer.learner import OnlineLearner

FLIPPED_FROM = 500
"""Exchanges, some 650 feedbacks."""
WITHIN = 500
"""Feedbacks after the flip, in which the alarm has to come."""
ROOM = 10_000
"""Feedbacks of one stationary room."""


def losses(seed: int, exchanges: int, flipped_from: int | None = None) -> Iterator[tuple[int, float]]:
    """Yield the exchange and the progressive loss of every feedback of a room."""
    settings = ScorerSettings(seed=seed)
    embedder, learner, number = build_embedder(settings), OnlineLearner(settings), 0
    room = simulate(seed, exchanges, datetime(2026, 1, 1, tzinfo=UTC), flipped_from=flipped_from)
    for place, exchange in enumerate(room):
        items = prepare(exchange.experience, embedder)
        said = {}
        for feedback in exchange.feedback:
            said[feedback.source] = Judgement.of(feedback)
            own = item_judgements(said[feedback.source], items.item_ids, items.item_types)
            rewards = item_rewards(said, items.item_ids, items.item_types, RewardSettings())
            entry = entry_of(exchange.experience, items, number, rewards)
            loss = judgement_loss(learner.score(entry).tolist(), own)
            learner.apply(number, [entry])
            number += 1
            if loss is not None:
                yield place, loss


def flip(seed: int) -> tuple[bool, int | None]:
    """Return whether there was an alarm before the flip, and how many feedbacks after it the first one came."""
    detector, early, after = PageHinkley(LOSS), False, 0
    for place, loss in losses(seed, FLIPPED_FROM + WITHIN, FLIPPED_FROM):
        alarm, after = detector.update(loss), after + (place >= FLIPPED_FROM)
        if after > WITHIN:
            break
        if alarm and after:
            return early, after
        early |= alarm
    return early, None


def false_alarms(feedbacks: int, seed: int) -> int:
    """Return the alarms in so many feedbacks of a room whose taste stays."""
    detector, alarms = PageHinkley(LOSS), 0
    for number, (_, loss) in enumerate(losses(seed, feedbacks)):
        if number == feedbacks:
            break
        alarms += detector.update(loss)
    return alarms


def measure(seeds: int, stationary: int, processes: int) -> dict[str, Any]:
    """Return both figures: seeds whose flip was alarmed in time, and alarms where nothing changed."""
    with ProcessPoolExecutor(processes) as pool:
        flips = list(pool.map(flip, range(seeds)))
        rooms = range(1000, 1000 + -(-stationary // ROOM))
        alarms = sum(pool.map(partial(false_alarms, min(ROOM, stationary)), rooms))
    delays = [delay for _, delay in flips if delay is not None]
    return {
        "seeds": seeds,
        "alarmed": len(delays),
        "alarmed_before_the_flip": sum(early for early, _ in flips),
        "feedbacks_to_the_alarm": {"median": median(delays), "most": max(delays)} if delays else None,
        "stationary_feedbacks": len(rooms) * min(ROOM, stationary),
        "false_alarms": alarms,
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--stationary", type=int, default=100_000, help="feedbacks")
    parser.add_argument("--processes", type=int, default=2)
    print(json.dumps(measure(**vars(parser.parse_args())), indent=2))


if __name__ == "__main__":
    main()
