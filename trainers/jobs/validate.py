"""`python -m trainers.jobs.validate JOB_DIR`: checks a job's dataset by the rules that its examples were chosen by.

Reads `job.json` and the dataset; prints progress as lines of JSON, writes `result.json`, and exits with 0 where the
dataset is whole and an example obeys its rules, else with 1 and one line that says why; those that do not are counted.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import JsonValue, ValidationError

from schemas.base import Event, StrictModel
from schemas.errors import JobError
from schemas.events import LabelledAnswer, PreferencePair, Trace, TrainingExample, TrainingJob
from schemas.settings import PairsSettings, TracesSettings
from trainers.files import write_atomically
from trainers.jobs.heldout import id_of
from trainers.jobs.snapshot import JOB_NAME, RESULT_NAME
from trainers.pairs.rules import broken_rule
from trainers.pairs.unpaired import broken_label
from trainers.traces.suitability import assess, is_eligible

Metrics = dict[str, JsonValue]
Report = Callable[[float, Metrics], None]
_Rules = TypeVar("_Rules", bound=StrictModel)
_Example = TypeVar("_Example", bound=Event)

PROGRESS_EVERY = 25
"""Examples between two lines of progress."""


def load_job(folder: Path) -> TrainingJob:
    """Read `job.json`.

    Raises:
        JobError: the file is missing or is no training job.
    """
    path = folder / JOB_NAME
    try:
        return TrainingJob.from_json(path.read_bytes())
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise JobError(f"{path} is no training job: {_first_error(error)}") from error


def read_dataset(folder: Path, job: TrainingJob) -> bytes:
    """Return the bytes of the job's dataset, which must be those that the job was made on.

    Raises:
        JobError: the file is missing, lies outside the job's folder, or its bytes differ.
    """
    try:
        path = (folder.parent.parent / job.dataset_path).resolve()
    except (OSError, ValueError) as error:  # too long, or with NUL
        raise JobError(f"dataset {job.dataset_path[:140]!r} is no path") from error
    if not path.is_relative_to(folder.resolve()):
        raise JobError(f"dataset {job.dataset_path[:140]!r} lies outside the job's folder")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise JobError(f"dataset {job.dataset_path} cannot be read: {error.strerror}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != job.dataset_sha256:
        lines = data.count(b"\n")
        raise JobError(
            f"dataset {job.dataset_path} has sha256 {found[:12]} and {lines} lines, "
            f"the job names {job.dataset_sha256[:12]} and {job.example_count}"
        )
    return data


@dataclass(frozen=True)
class Checked:
    """The examples of a dataset, those that break a rule apart."""

    kept: list[TrainingExample]
    dropped: dict[str, tuple[TrainingExample, str]]
    """By id: the example and the rule that it breaks."""
    kinds: dict[str, int]
    """Count of each kind, or grade, of those that are kept."""

    @property
    def metrics(self) -> Metrics:
        """The counts."""
        counts: Metrics = {"examples": len(self.kept) + len(self.dropped), "kinds": dict(self.kinds)}
        if self.dropped:
            counts["dropped"] = dict(Counter(reason for _, reason in self.dropped.values()))
        return counts


def check_examples(job: TrainingJob, data: bytes, report: Report) -> Checked:
    """Judge every example by the rules that it was chosen by; one that carries none, by the job's.

    One that breaks them is dropped and counted, so that a rule that was made stricter while examples waited takes
    none of the others with it.

    Raises:
        JobError: an example is unreadable or repeated, their number is not the job's, or none is left.
    """
    lines = data.splitlines()
    if len(lines) != job.example_count:
        raise JobError(f"dataset has {len(lines)} examples, the job names {job.example_count}")
    kept: list[TrainingExample] = []
    dropped: dict[str, tuple[TrainingExample, str]] = {}
    seen: set[str] = set()
    kinds: Counter[str] = Counter()
    first = ""
    for number, (example, kind, broken) in enumerate(_judged(job, lines), start=1):
        name = id_of(example)
        if name in seen:
            raise JobError(f"example {number} repeats {name}")
        seen.add(name)
        if broken is None:
            kept.append(example)
            kinds[kind] += 1
        else:
            dropped[name] = (example, broken)
            first = first or f"example {number}, {name}, breaks the rule {broken}"
        if number % PROGRESS_EVERY == 0 or number == len(lines):
            report(number / len(lines), {"examples": number, "kinds": dict(kinds)})
    if not kept:
        raise JobError(f"no example of job {job.job_id} obeys the rules that it was chosen by: {first}")
    return Checked(kept, dropped, dict(kinds))


def validate(folder: Path, report: Report) -> Metrics:
    """Check a job's folder as a whole and return the counts.

    Raises:
        JobError: something is missing, was changed or breaks a rule.
    """
    job = load_job(folder)
    return check_examples(job, read_dataset(folder, job), report).metrics


def main(arguments: Sequence[str]) -> int:
    """Run the check and return the exit status: 0 valid, 1 not, 2 wrong usage."""
    if len(arguments) != 1:
        print("usage: python -m trainers.jobs.validate JOB_DIR", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    result: dict[str, JsonValue]
    try:
        result = {"state": "validated", "metrics": validate(folder, _print_progress), "error": None}
    except JobError as error:
        result = {"state": "failed", "metrics": {}, "error": str(error)}
    problem = result["error"]
    try:
        if folder.is_dir():
            write_atomically(folder / RESULT_NAME, json.dumps(result).encode())
    except OSError as error:
        problem = problem or f"{folder / RESULT_NAME} cannot be written: {error.strerror}"
    if problem is not None:
        print(f"error: {problem}", file=sys.stderr)
    return 0 if problem is None else 1


def _judged(job: TrainingJob, lines: Sequence[bytes]) -> Iterator[tuple[TrainingExample, str, str | None]]:
    """Yield each example with its kind and the rule that it breaks, None for none."""
    match job.tier:
        case "dpo":
            yield from _pairs(job, lines)
        case "kto":
            yield from _labelled(job, lines)
        case "sft":
            yield from _traces(job, lines)


def _pairs(job: TrainingJob, lines: Sequence[bytes]) -> Iterator[tuple[PreferencePair, str, str | None]]:
    rules = _rules(job, PairsSettings)
    used: set[tuple[str, str]] = set()
    for number, line in enumerate(lines, start=1):
        pair = _example(PreferencePair, number, line)
        own = _stamped(pair.chosen_by, rules)
        answers = {(pair.kind, pair.chosen_experience_id), (pair.kind, pair.rejected_experience_id)}
        broken = broken_rule(pair, own)
        if broken is None and own.one_to_one and answers & used:
            broken = "answer_used_twice"
        if broken is None:
            used |= answers
        yield pair, pair.kind, broken


def _labelled(job: TrainingJob, lines: Sequence[bytes]) -> Iterator[tuple[LabelledAnswer, str, str | None]]:
    rules = _rules(job, PairsSettings)
    for number, line in enumerate(lines, start=1):
        answer = _example(LabelledAnswer, number, line)
        yield answer, answer.kind, broken_label(answer, _stamped(answer.chosen_by, rules))


def _traces(job: TrainingJob, lines: Sequence[bytes]) -> Iterator[tuple[Trace, str, str | None]]:
    rules = _rules(job, TracesSettings)
    for number, line in enumerate(lines, start=1):
        trace = _example(Trace, number, line)
        own = _stamped(trace.chosen_by, rules)
        assessment = assess(trace, own)
        yield trace, assessment.grade, None if is_eligible(assessment, own) else assessment.reasons[0]


def _rules(job: TrainingJob, model: type[_Rules]) -> _Rules:
    try:
        return model.model_validate(job.settings.get("rules"))
    except ValidationError as error:
        raise JobError(f"the job's rules cannot be read: {_first_error(error)}") from error


def _stamped(chosen_by: Mapping[str, JsonValue] | None, rules: _Rules) -> _Rules:
    """Return the rules that an example was chosen by; the job's where it carries none, or none that can be read."""
    if chosen_by is None:
        return rules
    known = {name: value for name, value in chosen_by.items() if name in type(rules).model_fields}
    try:
        return type(rules).model_validate({**rules.model_dump(), **known})
    except ValidationError:
        return rules


def _example(model: type[_Example], number: int, line: bytes) -> _Example:
    try:
        return model.from_json(line)
    except ValidationError as error:
        raise JobError(f"example {number} is no {model.__name__}: {_first_error(error)}") from error


def _first_error(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'value'}: {first['msg']}"


def _print_progress(progress: float, metrics: Metrics) -> None:
    print(json.dumps({"progress": round(progress, 4), "metrics": metrics}), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
