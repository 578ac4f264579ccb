"""What the scorer learns from real judgements, on queries that it never saw."""

from functools import cache
from hashlib import md5
from statistics import fmean

import numpy as np
import pytest
from msgspec.structs import replace

from benchmarks.accuracy import Judged, within_query_accuracy
from benchmarks.home_assistant import DATA, load_rows, to_experience
from schemas.records import Arrival, Origin, ScorerEntry
from schemas.settings import ScorerSettings
from tests.trainers.scorer.making import run
from trainers.embedding import build_embedder
from trainers.prepare import prepare, query_hash
from trainers.scorer.learner import OnlineLearner

pytestmark = [pytest.mark.skipif(not DATA.is_file(), reason=f"no {DATA.name} beside the project"), pytest.mark.long]
FOLDS = 5


@cache
def judged_entries() -> list[tuple[ScorerEntry, int]]:
    """Return every row as a judged entry, with the fold of its query."""
    embedder = build_embedder(ScorerSettings())
    made = []
    for row in load_rows():
        event = to_experience(row)
        items = prepare(event, embedder)
        reward = 1.0 if row.good else -1.0
        entry = ScorerEntry(
            "feedback", row.experience_id, None, Origin("feedback", 0, row.number), 0.0, query_hash(row.query),
            event.intent.type, items.item_ids, items.item_types, (reward,) * len(items.item_ids),
            Arrival(0, row.number), items.features,
        )  # fmt: skip
        fold = int(md5(row.query.encode(), usedforsecurity=False).hexdigest(), 16) % FOLDS
        made.append((entry, fold))
    return made


def accuracy(fold: int, shuffled: bool = False) -> float:
    """Learn in steps of 32 what is not of the fold, in file order; return the accuracy on the fold."""
    learned = [entry for entry, place in judged_entries() if place != fold]
    if shuffled:
        order = np.random.default_rng(fold).permutation(len(learned))
        rewards = [(learned[n].rewards or (1.0,))[0] for n in order]
        learned = [
            replace(entry, rewards=(reward,) * len(entry.item_ids))
            for entry, reward in zip(learned, rewards, strict=True)
        ]
    learner = OnlineLearner(ScorerSettings())
    run(learner, learned, batch=32)
    unseen = [entry for entry, place in judged_entries() if place == fold and entry.item_ids]
    found = within_query_accuracy(
        Judged(entry.query_hash, entry.rewards[0] == 1.0, learner.score(entry).tolist()) for entry in unseen
    ).value
    assert found is not None
    return found


def test_scorer_ranks_answers_to_queries_it_never_saw():
    found = [accuracy(fold) for fold in range(FOLDS)]
    assert fmean(found) > 0.83
    assert min(found) > 0.70


def test_shuffled_labels_teach_nothing():
    assert fmean(accuracy(fold, shuffled=True) for fold in range(FOLDS)) < 0.70
