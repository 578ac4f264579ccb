"""How well the scorer learns, beside Vowpal Wabbit and River in the same run.

Twice: where queries repeat in kind (home_assistant), and where they do not (hh_rlhf)."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from statistics import fmean, stdev
from typing import Any, Literal

from benchmarks import hh_rlhf, home_assistant
from benchmarks.baselines import featured, run_grids
from benchmarks.folds import (
    FOLDS,
    SHARES,
    Accuracies,
    Example,
    examples_of,
    fold_mean,
    learn,
    over_seeds,
    paired_difference,
    shuffled,
    split,
)
from benchmarks.progress import Progressed
from schemas.settings import ScorerSettings
from trainers.embedding import build_embedder

DATA = {"home_assistant": home_assistant.load_rows, "hh_rlhf": hh_rlhf.load_rows}
"""Rows by name."""
NEVER = 2**62
"""One query in so many is held out: none."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to learn the stream."""

    name: str
    changes: tuple[tuple[str, Any], ...] = ()
    groups: int = 1
    """Feedbacks a step."""
    shuffled: bool = False

    def settings(self, seed: int) -> ScorerSettings:
        """Return the defaults with the variant's changes."""
        return ScorerSettings().model_copy(update={**dict(self.changes), "seed": seed})


DEFAULT = Variant("defaults, one feedback a step")
EQUAL = Variant("one feedback a step, nothing held out (as the others learn)", (("validation_one_in", NEVER),))
SHUFFLED = (
    Variant("labels shuffled, one feedback a step", shuffled=True),
    Variant("labels shuffled, 32 feedbacks a step", groups=32, shuffled=True),
)
VARIANTS = (
    DEFAULT,
    Variant("defaults, 32 feedbacks a step", groups=32),
    EQUAL,
    Variant("rank 8, one feedback a step", (("rank", 8),)),
    Variant("rank 8, 32 feedbacks a step", (("rank", 8),), groups=32),
    *SHUFFLED,
    Variant("minilm instead of hash, one feedback a step", (("embedder", "minilm"),)),
)

COMPARED = (
    (DEFAULT.name, "rank 8, one feedback a step"),
    ("defaults, 32 feedbacks a step", "rank 8, 32 feedbacks a step"),
    (DEFAULT.name, "defaults, 32 feedbacks a step"),
    (DEFAULT.name, "minilm instead of hash, one feedback a step"),
)
"""Pairs of variants whose difference is told."""

Run = list[list[Accuracies]]
"""By share of the stream, then by fold."""


@cache
def _examples(data: str, embedder: Literal["hash", "minilm", "supplied"]) -> list[Example]:
    return examples_of(DATA[data](), build_embedder(ScorerSettings(embedder=embedder)))


def learn_all_folds(data: str, variant: Variant, seed: int) -> Run:
    """Learn every fold's stream with one seed."""
    settings = variant.settings(seed)
    by_fold = []
    for fold in range(FOLDS):
        seen, unseen = split(_examples(data, settings.embedder), fold)
        by_fold.append(learn(settings, shuffled(seen, seed) if variant.shuffled else seen, unseen, variant.groups))
    return [[curve[place] for curve in by_fold] for place in range(len(SHARES))]


def measure(data: str, seeds: int, workers: int, progress: Progressed) -> dict[str, Any]:
    """Return the table of learners, the learning curve and the paired differences.

    Raises:
        FileNotFoundError: the data is not there.
    """
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        jobs = {pool.submit(learn_all_folds, data, v, seed): (v, seed) for v in VARIANTS for seed in range(seeds)}
        others = []
        for one in _others(data):
            others.append(one)
            at = f"{one['learner']}, {one['features']}, learning rate {one['learning_rate']:g}"
            progress(at, sum(job.done() for job in jobs) / len(jobs))
        for done, job in enumerate(as_completed(jobs), start=1):
            variant, seed = jobs[job]
            progress(f"{variant.name}, seed {seed}", done / len(jobs))
        runs: dict[str, list[Run]] = {}
        for job, (variant, _) in jobs.items():
            runs.setdefault(variant.name, []).append(job.result())
    ends = {name: [run[-1] for run in of] for name, of in runs.items()}
    best = _best(others)
    by_query = {name: over_seeds(of) for name, of in ends.items() if name not in {v.name for v in SHUFFLED}}
    by_query |= {_name(one): over_seeds([one["accuracies"]]) for one in best.values()}
    return {
        "data": data,
        "queries": len(over_seeds(ends[DEFAULT.name])),
        "seeds": seeds,
        "scorer": {name: _summary(of) for name, of in ends.items()},
        "others": {_name(one): _without(one) for one in best.values()},
        "grid": [{**_without(one), "learner": one["learner"], "features": one["features"]} for one in others],
        "differences": {**_to_others(ends, best.values()), **_between(ends)},
        "curve": {name: [fmean(map(fold_mean, (run[n] for run in of))) for n in range(len(SHARES))]
                  for name, of in runs.items()},
        "shares": list(SHARES),
        "by_query": by_query,
        "ceiling": ceiling(by_query.values()),
    }  # fmt: skip


def _others(data: str) -> Iterator[dict[str, Any]]:
    """Yield every point of the others' grids."""
    for learner, features, rate, accuracies in run_grids(featured(_examples(data, "hash"))):
        summary = {"accuracy": fold_mean(accuracies), "folds": [fmean(fold.values()) for fold in accuracies]}
        yield {"learner": learner, "features": features, "learning_rate": rate, "accuracies": accuracies, **summary}


def _to_others(ends: Mapping[str, Sequence[Sequence[Accuracies]]], best: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return how far three ways to learn are above the best point of each grid."""
    return {
        f"{ours} - {_name(theirs)}": asdict(
            paired_difference(over_seeds(ends[ours]), over_seeds([theirs["accuracies"]]))
        )
        for theirs in best
        for ours in (DEFAULT.name, EQUAL.name, VARIANTS[1].name)
    }


def _between(ends: Mapping[str, Sequence[Sequence[Accuracies]]]) -> dict[str, Any]:
    """Return how far the defaults are above what differs from them in one setting."""
    return {
        f"{one} - {other}": asdict(paired_difference(over_seeds(ends[one]), over_seeds(ends[other])))
        for one, other in COMPARED
    }


def ceiling(learners: Iterable[Accuracies]) -> dict[str, Any]:
    """Return what would be reached by taking, query by query, the learner that did best; and who nobody gets right."""
    of = list(learners)
    best = {query: max(one[query] for one in of) for query in of[0]}
    return {"accuracy": fmean(best.values()), "lost": sorted(query for query, value in best.items() if value <= 0.5)}


def _name(one: Mapping[str, Any]) -> str:
    return f"{one['learner']}, {one['features']}"


def _best(others: Sequence[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the best point of each grid, on the folds that are reported."""
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for one in others:
        key = one["learner"], one["features"]
        if key not in best or one["accuracy"] > best[key]["accuracy"]:
            best[key] = one
    return best


def _without(one: dict[str, Any]) -> dict[str, Any]:
    return {name: one[name] for name in ("learning_rate", "accuracy", "folds")}


def _summary(runs: Sequence[Sequence[Accuracies]]) -> dict[str, Any]:
    means = [fold_mean(run) for run in runs]
    folds = [fmean(fmean(run[fold].values()) for run in runs) for fold in range(FOLDS)]
    return {
        "accuracy": fmean(means),
        "over_seeds": stdev(means) if len(means) > 1 else None,
        "over_folds": stdev(folds),
        "folds": folds,
        "seeds": len(runs),
    }
