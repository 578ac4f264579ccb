"""Jobs of a stream's run, copied for training, and the controls that take the meaning out of their data."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from schemas.events import JobTier, LabelledAnswer, PreferencePair, Trace
from schemas.settings import Settings
from trainers.jobs.accumulate import CompletedRun
from trainers.jobs.heldout import use_of
from trainers.jobs.snapshot import DATASET_NAME, freeze_job, write_job
from trainers.pairs.rules import example_id

TIERS: tuple[JobTier, ...] = ("dpo", "kto", "sft")
CONTROLS = {"dpo": "swapped at random", "kto": "labels shuffled", "sft": "mismatched"}
"""By tier, the control: half of the pairs swapped, labels dealt out anew, or each trace answered by another one."""

_START = datetime(2026, 1, 1, tzinfo=UTC)
_IDS = {"dpo": "pair_id", "kto": "answer_id", "sft": "trace_id"}

Lines = tuple[bytes, ...]
"""One job's dataset."""


def read_jobs(data_dir: Path, tier: JobTier) -> list[Lines]:
    """Return the datasets of a tier's jobs, in the order of their ids; KTO's are the answers of DPO's pairs."""
    if tier == "kto":
        return [tuple(one for line in lines for one in _answers_of(line)) for lines in read_jobs(data_dir, "dpo")]
    paths = sorted((data_dir / "jobs").glob(f"{tier}-*/{DATASET_NAME}"))
    return [tuple(path.read_bytes().splitlines()) for path in paths]


def controlled(tier: JobTier, lines: Lines, seed: int, one_in: int) -> Lines:
    """Return a job's examples with their meaning taken out where they are trained on; held-out ones stay."""
    chance = random.Random(seed)
    if tier == "dpo":
        return tuple(_maybe_swapped(PreferencePair.from_json(line), one_in, chance) for line in lines)
    if tier == "kto":
        answers = [LabelledAnswer.from_json(line) for line in lines]
        places = [place for place, one in enumerate(answers) if use_of(one, one_in) == "training"]
        labels = [
            (answers[place].good, answers[place].reward, answers[place].evaluation_confidence) for place in places
        ]
        chance.shuffle(labels)
        for place, (good, reward, confidence) in zip(places, labels, strict=True):
            said = {"good": good, "reward": reward, "evaluation_confidence": confidence}
            answers[place] = answers[place].model_copy(update=said)
        return tuple(one.to_json() for one in answers)
    traces = [Trace.from_json(line) for line in lines]
    trained = [place for place, trace in enumerate(traces) if use_of(trace, one_in) == "training"]
    chance.shuffle(trained)
    # Everyone gets the answer of the next one in a shuffled circle, so nobody keeps its own.
    answered = dict(zip(trained, [*trained[1:], *trained[:1]], strict=True))
    return tuple(_answered(trace, traces[answered.get(place, place)]) for place, trace in enumerate(traces))


def write_run(
    folder: Path, base: Path, jobs: Mapping[JobTier, Sequence[Lines]], tier: JobTier, picked: int, settings: Settings
) -> Path:
    """Make a data directory with all jobs of all tiers and the shared base model; return the folder of the picked."""
    base.mkdir(parents=True, exist_ok=True)
    (folder / "models").mkdir(parents=True, exist_ok=True)
    link = folder / "models" / "base"
    if not link.is_symlink():
        link.symlink_to(base.absolute())
    chosen = folder
    for name, datasets in jobs.items():
        for number, lines in enumerate(datasets):
            run = CompletedRun(tuple(json.loads(line)[_IDS[name]] for line in lines), lines)
            made = write_job(folder, freeze_job(folder, name, run, settings, _START + timedelta(hours=number)))
            if (name, number) == (tier, picked):
                chosen = made
    return chosen


def _answers_of(line: bytes) -> tuple[bytes, bytes]:
    """Return the two answers of a pair as examples by themselves, the good one first."""
    pair = PreferencePair.from_json(line)

    def labelled(side: Literal["chosen", "rejected"], prompt: str, confidence: float | None) -> bytes:
        experience: str = getattr(pair, f"{side}_experience_id")
        return LabelledAnswer(
            answer_id=example_id(pair.kind, experience),
            kind=pair.kind,
            prompt=prompt,
            answer=getattr(pair, side),
            good=side == "chosen",
            reward=getattr(pair, f"{side}_reward"),
            evaluation_confidence=confidence,
            experience_id=experience,
            intent_type=pair.intent_type,
            chosen_by=pair.chosen_by,
        ).to_json()

    return labelled("chosen", pair.prompt, pair.evaluation_confidence), labelled("rejected", pair.rejected_prompt, None)


def _maybe_swapped(pair: PreferencePair, one_in: int, chance: random.Random) -> bytes:
    if chance.random() < 0.5 or use_of(pair, one_in) == "held_out":
        return pair.to_json()
    return pair.model_copy(update={"chosen": pair.rejected, "rejected": pair.chosen}).to_json()


def _answered(trace: Trace, other: Trace) -> bytes:
    answer = {"thinking": other.thinking, "response": other.response}
    return trace.model_copy(update={**answer, "output_tokens": other.output_tokens}).to_json()
