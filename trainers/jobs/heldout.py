"""Which examples are never trained on, and those of all jobs together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from pydantic import ValidationError

from schemas.events import JobTier, LabelledAnswer, PreferencePair, Trace, TrainingExample, TrainingJob
from trainers.jobs.snapshot import DATASET_NAME, JOB_NAME
from trainers.prepare import is_held_out, query_hash
from trainers.text import normalised

Example = TypeVar("Example", PreferencePair, LabelledAnswer, Trace)
Use = Literal["training", "held_out", "left_out"]

_MARKS_AT_THE_END = " .,;:!?…。！？؟"  # noqa: RUF001 - other scripts' marks are meant


def prompt_hash(prompt: str) -> str:
    """Return 16 hex digits that name a prompt, however it is spelt: see `normalised`; nor do marks at its end count."""
    text = normalised(prompt)
    return query_hash(text.rstrip(_MARKS_AT_THE_END) or text)


def prompts_of(example: TrainingExample) -> tuple[str, ...]:
    """Return the hashes of the prompts that an example's answers are from, first the one that it asks."""
    if isinstance(example, Trace):
        return (prompt_hash(_opening(example)),)
    if isinstance(example, LabelledAnswer):
        return (prompt_hash(example.prompt),)
    return tuple(dict.fromkeys((prompt_hash(example.prompt), prompt_hash(example.rejected_prompt))))


def earlier_prompts_of(example: TrainingExample) -> tuple[str, ...]:
    """Return the hashes that lineages of earlier releases have, in which more spellings were prompts of their own."""
    prompts = (example.prompt, example.rejected_prompt) if isinstance(example, PreferencePair) else (example.prompt,)
    return tuple(query_hash(" ".join(prompt.casefold().split())) for prompt in prompts)


def _opening(trace: Trace) -> str:
    """Return what a conversation began with: all turns of one talk fall on one side."""
    asked = (turn.content for turn in trace.messages or () if turn.role == "user")
    return next(asked, trace.prompt)


def id_of(example: TrainingExample) -> str:
    """Return what makes an example distinct from others of its tier."""
    if isinstance(example, Trace):
        return example.trace_id
    return example.pair_id if isinstance(example, PreferencePair) else example.answer_id


def use_of(example: TrainingExample, one_in: int) -> Use:
    """Say what an example is for.

    Left out of both is a pair whose rejected answer alone is from a held-out prompt: training on it would show that
    prompt's answer, and it asks another prompt, which is trained on.
    """
    asked, *others = prompts_of(example)
    if is_held_out(asked, one_in):
        return "held_out"
    return "left_out" if any(is_held_out(other, one_in) for other in others) else "training"


@dataclass(frozen=True, slots=True)
class Split(Generic[Example]):
    """The examples of a job, by what they are for."""

    training: list[Example]
    held_out: list[Example]
    left_out: list[Example]


def split(examples: Sequence[Example], one_in: int) -> Split[Example]:
    """Part a job's examples; whole prompts are held out, chosen by hash."""
    parts: dict[Use, list[Example]] = {"training": [], "held_out": [], "left_out": []}
    for example in examples:
        parts[use_of(example, one_in)].append(example)
    return Split(parts["training"], parts["held_out"], parts["left_out"])


def held_out_pairs(data_dir: Path, one_in: int, size: int, trained: frozenset[str]) -> list[PreferencePair]:
    """Return `size` held-out pairs of all jobs, spread over prompts; none whose prompt's hash is in `trained`."""
    return _held_out(data_dir, "dpo", PreferencePair.from_json, one_in, size, trained)


def held_out_answers(data_dir: Path, one_in: int, size: int, trained: frozenset[str]) -> list[LabelledAnswer]:
    """Return `size` held-out labelled answers of all jobs, as of pairs."""
    return _held_out(data_dir, "kto", LabelledAnswer.from_json, one_in, size, trained)


def held_out_traces(data_dir: Path, one_in: int, size: int, trained: frozenset[str]) -> list[Trace]:
    """Return `size` held-out traces of all jobs, spread over prompts; none whose prompt's hash is in `trained`."""
    return _held_out(data_dir, "sft", Trace.from_json, one_in, size, trained)


def _held_out(
    data_dir: Path, tier: JobTier, decode: Callable[[bytes], Example], one_in: int, size: int, trained: frozenset[str]
) -> list[Example]:
    found: dict[str, Example] = {}
    for line in _lines(data_dir, tier):
        example = decode(line)
        if use_of(example, one_in) == "held_out" and trained.isdisjoint(
            prompts_of(example) + earlier_prompts_of(example)
        ):
            found.setdefault(id_of(example), example)
    return _spread(list(found.values()), size)


def _spread(examples: list[Example], size: int) -> list[Example]:
    """Return `size` of the examples, evenly over their prompts, of each the newest, in the order given.

    The gate counts prompts, not examples, so that the same work says more.
    """
    rank: dict[int, int] = {}
    seen: dict[str, int] = {}
    for place in reversed(range(len(examples))):
        asked = prompts_of(examples[place])[0]
        rank[place] = seen[asked] = seen.get(asked, -1) + 1
    newest_first = sorted(range(len(examples)), key=lambda place: (rank[place], -place))
    return [examples[place] for place in sorted(newest_first[:size])]


def _lines(data_dir: Path, tier: JobTier) -> Iterable[bytes]:
    """Yield the dataset lines of all jobs of a tier in the order in which they were asked for."""
    jobs = []
    for path in (data_dir / "jobs").glob(f"*/{JOB_NAME}"):
        try:
            job = TrainingJob.from_json(path.read_bytes())
        except (OSError, ValidationError):
            continue  # that job's own run says what is wrong with it
        if job.tier == tier:
            jobs.append((job.requested_at, job.job_id, job.dataset_sha256, path.with_name(DATASET_NAME)))
    for _, _, sha256, dataset in sorted(jobs):
        data = dataset.read_bytes() if dataset.is_file() else b""
        if hashlib.sha256(data).hexdigest() == sha256:
            yield from data.splitlines()
