"""Scorer entries made up for tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from schemas.records import FEATURES_PER_ITEM, Arrival, Origin, ScorerEntry
from schemas.settings import ScorerSettings
from trainers.prepare import is_held_out, query_hash
from trainers.scorer.fold import ScorerFold
from trainers.scorer.learner import OnlineLearner
from trainers.scorer.log_settings import learning_settings

SMALL = ScorerSettings(
    rank=4,
    replay_capacity=24,
    replay_samples=8,
    validation_size=12,
    groups_per_step=3,
    pairs_per_step=16,
    validate_every_steps=2,
    plateau_patience=1,
)


def queries(held_out: bool, count: int, one_in: int = 6) -> list[str]:
    """Return queries that are held out, or not."""
    found = (f"query {n}" for n in range(10_000))
    return [q for q in found if is_held_out(query_hash(q), one_in) is held_out][:count]


LEARNED, HELD_OUT = queries(False, 12), queries(True, 4)


def entry(
    number: int,
    rewards: Sequence[float | None] = (1.0, -1.0),
    *,
    kind: str = "feedback",
    query: str = LEARNED[0],
    origin: Origin | None = None,
    intent: str = "status",
    features: bytes | None = None,
) -> ScorerEntry:
    """Return an entry whose vectors follow from its number, and its origin too."""
    count = len(rewards)
    vectors = np.random.default_rng(number).random(384 + count * FEATURES_PER_ITEM, np.float32)
    return ScorerEntry(
        kind=kind,  # type: ignore[arg-type]
        experience_id=f"e{number}",
        feedback_id=f"f{number}" if kind == "feedback" else None,
        origin=origin or Origin("feedback", 0, number),
        received_at=0.0,
        query_hash=query_hash(query),
        intent_type=intent,
        item_ids=tuple(f"w{n}" for n in range(count)),
        item_types=("widget",) * count,
        rewards=tuple(rewards) if kind == "feedback" else (),
        arrival=Arrival(0, number),
        features=vectors.astype("<f4").tobytes() if features is None else features,
    )


def arrival_of(judged: ScorerEntry) -> ScorerEntry:
    """Return the arrival that brought a feedback's features."""
    origin = Origin("experiences", *judged.arrival)
    return replace(judged, kind="arrived", feedback_id=None, rewards=(), origin=origin)


def random_stream(seed: int, count: int) -> list[ScorerEntry]:
    """Return entries of all kinds, with repetitions and unusable ones among them."""
    rng = np.random.default_rng(seed)
    stream: list[ScorerEntry] = []
    for number in range(count):
        kind = "arrived" if rng.random() < 0.3 else "feedback"
        pool = HELD_OUT if rng.random() < 0.2 else LEARNED
        rewards: list[float | None] = rng.choice([-1.0, -0.5, 0.5, 1.0], size=rng.integers(1, 4)).tolist()
        if rng.random() < 0.1:
            rewards[0] = float("nan") if rng.random() < 0.5 else None
        origin = Origin("feedback", 0, number - 1) if number and rng.random() < 0.05 else None
        made = entry(
            number, rewards, kind=kind, query=str(rng.choice(pool)), intent=str(rng.choice(["a", "b"])), origin=origin
        )
        stream.append(made)
    return stream


def run(learner: OnlineLearner | ScorerFold, entries: Sequence[ScorerEntry], batch: int) -> None:
    """Apply entries as the log's next records, so many in each."""
    for start in range(0, len(entries), batch):
        learner.apply(learner.next_offset, entries[start : start + batch])


def begun(settings: ScorerSettings = SMALL) -> ScorerFold:
    """Return a scorer after the log's first record, its settings."""
    return ScorerFold(learning_settings(settings)).arrive(0)


def scorer_after(count: int, settings: ScorerSettings = SMALL, batch: int = 10) -> ScorerFold:
    """Return a scorer that has folded so many entries of a random stream."""
    fold = begun(settings)
    run(fold, random_stream(1, count), batch)
    return fold
