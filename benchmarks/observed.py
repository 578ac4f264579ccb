"""What a run of the system on the recorded rows led to, read from its topics, its files and its status page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.system import RunningSystem
from benchmarks.topics import Record, read_all
from schemas.events import DeadLetter, PreferencePair, ScoreUpdate, TrainingJob
from schemas.settings import TracesSettings
from streams import topics
from streams.training.records import parse
from trainers.traces.store import TraceStore
from trainers.traces.suitability import assess, is_eligible


@dataclass(slots=True)
class Scores:
    """What the score updates tell."""

    arrived: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """The items' scores by experience, as of its arrival."""
    judged: dict[str, set[tuple[str, int]]] = field(default_factory=dict)
    """By feedback, every (reason, step) that it was published with: one, however often it was published."""
    repeated: int = 0
    """Updates that came a second time."""


@dataclass(frozen=True, slots=True)
class Traces:
    """What the trace store holds."""

    stored: int
    eligible: int
    reasons: dict[str, int]
    """By first reason why a trace is not excellent."""


@dataclass(frozen=True, slots=True)
class Observed:
    """All that a run is judged by."""

    scores: Scores
    dead_letters: dict[str, int]
    """Count by reason."""
    pair_ids: tuple[str, ...]
    """Distinct, in the topic's order."""
    jobs: dict[str, TrainingJob]
    """By id; a repeated announcement is one job."""
    dpo_datasets: dict[str, list[dict[str, Any]]]
    """The pairs of each DPO job, as JSON data."""
    sft_datasets: dict[str, list[dict[str, Any]]]
    """The traces of each SFT job, as JSON data."""
    traces: Traces
    scorer: dict[str, Any]
    """The scorer's own figures, over its life."""
    funnel: dict[str, Any]
    """The pair funnel."""

    def job_ids(self, tier: str) -> list[str]:
        """Return the ids of a tier's jobs, in the topic's order."""
        return [name for name, job in self.jobs.items() if job.tier == tier]


async def observe(system: RunningSystem) -> Observed:
    """Read everything; to be called when nothing is left to be processed."""
    settings, status = system.settings, system.status()
    letters = [DeadLetter.from_json(record.value) for record in await read_all(settings, topics.DEAD_LETTERS)]
    pairs = [PreferencePair.from_json(record.value) for record in await read_all(settings, topics.PAIRS)]
    parsed = [parse(record.value) for record in await read_all(settings, topics.JOBS)]
    announced = [job for job in parsed if isinstance(job, TrainingJob)]
    jobs = {job.job_id: job for job in announced}
    datasets = {name: _dataset(system.data_dir / job.dataset_path) for name, job in jobs.items()}
    return Observed(
        scores=gather_scores(await read_all(settings, topics.SCORE_UPDATES)),
        dead_letters=dict(Counter(letter.error_type for letter in letters)),
        pair_ids=tuple(dict.fromkeys(pair.pair_id for pair in pairs)),
        jobs=jobs,
        dpo_datasets={name: datasets[name] for name, job in jobs.items() if job.tier == "dpo"},
        sft_datasets={name: datasets[name] for name, job in jobs.items() if job.tier == "sft"},
        traces=_stored_traces(system.data_dir / "traces", settings.traces),
        scorer=status["scorer"] or {},
        funnel=status["pair_funnel"],
    )


def gather_scores(records: Sequence[Record]) -> Scores:
    """Sum up the score updates; `records` are in order within each partition."""
    scores = Scores()
    for record in records:
        update = ScoreUpdate.from_json(record.value)
        values = tuple(item.score for item in update.items)
        if update.feedback_id is None:
            scores.repeated += update.experience_id in scores.arrived
            scores.arrived[update.experience_id] = values
        else:
            scores.repeated += update.feedback_id in scores.judged
            scores.judged.setdefault(update.feedback_id, set()).add((update.reason, update.scorer_step))
    return scores


def _stored_traces(folder: Path, settings: TracesSettings) -> Traces:
    assessed = [assess(stored.trace, settings) for stored in TraceStore(folder).read()]
    return Traces(
        stored=len(assessed),
        eligible=sum(is_eligible(one, settings) for one in assessed),
        reasons=dict(Counter(one.reasons[0] for one in assessed if one.reasons)),
    )


def _dataset(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]
