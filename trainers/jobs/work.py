"""What a job's process works with: the job, checked; its examples, parted; the version that it continues from."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase

from schemas.base import StrictModel
from schemas.errors import JobError
from schemas.events import JobTier, LabelledAnswer, PreferencePair, Trace, TrainingExample, TrainingJob
from schemas.job_settings import ADAPTER_SETTINGS, TRAINED_BY, DpoSettings, GateSettings, SftSettings
from trainers.files import write_atomically
from trainers.jobs.base_model import BaseModel, ensure_base_model
from trainers.jobs.chat_template import prove_template, unmarked
from trainers.jobs.fit import Fitted, fit
from trainers.jobs.formats import FORMAT_VERSION, conversations
from trainers.jobs.heldout import Split, id_of, split
from trainers.jobs.lineage import AnySplit, Record, make_record
from trainers.jobs.lora import check_sizes, load_tokenizer
from trainers.jobs.progress import is_main_process, say
from trainers.jobs.received import Received
from trainers.jobs.snapshot import CHECKPOINTS, RETRY
from trainers.jobs.validate import check_examples, load_job, read_dataset
from trainers.versions import VersionStore, version_name
from trainers.versions.store import LINEAGE

START_NAME = "start.json"
"""What the job began from, so that it resumes from the same."""

_Training = TypeVar("_Training", DpoSettings, SftSettings)
_Example = TypeVar("_Example", PreferencePair, LabelledAnswer, Trace)
_Section = TypeVar("_Section", bound=StrictModel)


@dataclass(frozen=True)
class Work(Generic[_Training, _Example]):
    """One job, ready to be trained."""

    folder: Path
    job: TrainingJob
    training: _Training
    gate: GateSettings
    examples: Split[_Example]
    """Those that fit, as they were recorded."""
    fitted: Mapping[str, Fitted[_Example]]
    """By id: each example that obeys the rules, as it is trained on."""
    dropped: Mapping[str, tuple[TrainingExample, str]]
    """By id: the examples that are not used, with the reason."""
    base: BaseModel
    base_parts: dict[str, str]
    """What the base model's identity is made of."""
    tokenizer: PreTrainedTokenizerBase
    """The base model's, its template marked and proved."""
    store: VersionStore
    parent: str | None
    """The version that training continues from, and refers to."""

    @property
    def data_dir(self) -> Path:
        """The data directory."""
        return self.folder.parent.parent

    @property
    def checkpoints(self) -> Path:
        """Folder of the job's own checkpoints."""
        return self.folder / CHECKPOINTS

    @property
    def format_version(self) -> int:
        """Of the prompts and answers that it is trained on."""
        return FORMAT_VERSION

    @property
    def version(self) -> str:
        """Name of the version that the job makes: of its examples, settings, base model, parent and format."""
        made_of = (self.job.job_id, self.job.dataset_sha256, json.dumps(self.job.settings, sort_keys=True))
        base = json.dumps(self.base_parts, sort_keys=True)
        return version_name(self.job.tier, *made_of, base, self.parent or "", str(FORMAT_VERSION))

    @property
    def rows(self) -> list[Fitted[_Example]]:
        """The examples to train on, as the trainer gets them."""
        return [self.fitted[id_of(one)] for one in self.examples.training]

    def received(self) -> Received:
        """Return what notes which of them the trainer was given."""
        ids = [id_of(one) for one in self.examples.training]
        return Received(ids, [[len(row.ids) for row in one.rows] for one in self.rows])

    def record(self, trained: frozenset[str]) -> Record:
        """Return what became of each example of the job, of which the trainer was given those in `trained`."""
        cut = frozenset(name for name, one in self.fitted.items() if one.cut)
        return make_record(cast(AnySplit, self.examples), self.dropped, cut, trained)

    def adapter(self, version: str | None) -> Path | None:
        """Return the folder of a version, its files checked; None for the base model itself.

        Raises:
            VersionError: a file is missing or has changed.
        """
        return None if version is None else self.store.verified(version)


def prepare(
    folder: Path, tier: JobTier, settings: type[_Training], example: type[_Example]
) -> Work[_Training, _Example]:
    """Check a job and make everything ready that its training needs.

    Raises:
        JobError: the job, its dataset or its base model cannot be used.
        VersionError: the version in use cannot be read, or the line of policies has no start yet.
        OSError: the disk is full or read-only.
    """
    job = load_job(folder)
    if job.tier != tier:
        raise JobError(f"job {job.job_id} is of tier {job.tier}, not {tier}", f"run trainers.jobs.{job.tier}")
    training, gate = _section(job, "training", settings), _section(job, "gate", GateSettings)
    say(0.0, stage="checking the dataset", settings={"training": training.model_dump(mode="json")})
    checked = check_examples(job, read_dataset(folder, job), lambda *_: None)
    data_dir = folder.parent.parent
    store = VersionStore(data_dir)
    if (undecided := store.missing_start()) is not None:
        raise undecided
    base = ensure_base_model(job.base_model, data_dir, lambda words: say(0.01, stage=f"base model: {words}"))
    tokenizer = load_tokenizer(base)
    check_sizes(base, tokenizer, training.max_length)
    say(0.02, stage="fitting the examples")
    fitted = {id_of(one): fit(tokenizer, one, training.max_length) for one in cast(list[_Example], checked.kept)}
    dropped = dict(checked.dropped)
    for one in checked.kept:
        if (reason := fitted[id_of(one)].reason) is not None:
            dropped[id_of(one)] = (one, reason)
    _see_that_some_fit(job, training.max_length, fitted)
    examples = split(
        [one for one in cast(list[_Example], checked.kept) if id_of(one) not in dropped], gate.held_out_one_in
    )
    if not examples.training:
        raise JobError(f"all {job.example_count} examples of job {job.job_id} are held out", "wait for further ones")
    _prove(tokenizer, [fitted[id_of(one)] for one in examples.training])
    parts = base.parts(unmarked(tokenizer))
    parent = _pinned_parent(folder / CHECKPOINTS, parts, store, job.job_id)
    work = Work(folder, job, training, gate, examples, fitted, dropped, base, parts, tokenizer, store, parent)
    _check_parent(work)
    return work


def _see_that_some_fit(job: TrainingJob, max_length: int, fitted: Mapping[str, Fitted[Any]]) -> None:
    """See that an example is left, else say what each reason asks for."""
    if any(one.example is not None for one in fitted.values()):
        return
    reasons = Counter(str(one.reason) for one in fitted.values())
    counts = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    detail = next((f" ({one.detail})" for one in fitted.values() if one.detail), "")
    remedy = (
        "give jobs.base_model a chat template that takes such conversations"
        if reasons.most_common(1)[0][0] == "refused_by_template"
        else f"raise jobs.{TRAINED_BY[job.tier]}.max_length"
    )
    raise JobError(
        f"no example of job {job.job_id} can be trained on with max_length = {max_length}: {counts}{detail}",
        f"{remedy}, then {RETRY}",
    )


def _prove(tokenizer: PreTrainedTokenizerBase, fitted: Sequence[Fitted[Any]]) -> None:
    """Render one example, one with reasoning where there is one, and see that what is to be taught is marked."""
    examples: list[TrainingExample] = [one.example for one in fitted if one.example is not None]
    example = next((one for one in examples if isinstance(one, Trace) and one.thinking), examples[0])
    prove_template(tokenizer, conversations(example)[0])


def ancestors(store: VersionStore, version: str | None) -> Iterator[str]:
    """Yield a version and those that it continues from, the newest first.

    Raises:
        VersionError: one of them cannot be read.
    """
    while version is not None:
        yield version
        version = store.get(version).parent_version


def trained_prompts(store: VersionStore, version: str | None) -> frozenset[str]:
    """Return the hashes of the prompts that a version and its ancestors were trained on."""
    found: set[str] = set()
    for name in ancestors(store, version):
        lineage = store.folder(name) / LINEAGE
        for line in lineage.read_bytes().splitlines() if lineage.is_file() else ():
            content = json.loads(line)
            if content.get("use") == "training":
                found.update(content.get("prompts", ()))
    return frozenset(found)


def _pinned_parent(checkpoints: Path, base_parts: Mapping[str, str], store: VersionStore, job_id: str) -> str | None:
    """Return the version in use as the job starts; checkpoints that began from another, or another base, are dropped.

    Only where the job's own version has been in use already, it is what that began from.
    """
    path, in_use = checkpoints / START_NAME, store.in_use("policy").version
    if path.is_file():
        start = json.loads(path.read_bytes())
        began: str | None = start["parent_version"]
        done = any(one.job_id == job_id and one.status == "promoted" for one in store.versions("policy"))
        if start.get("base_model") == base_parts and (began == in_use or done):
            return began
    if is_main_process():
        shutil.rmtree(checkpoints, ignore_errors=True)
        start = {"parent_version": in_use, "base_model": dict(base_parts)}
        write_atomically(path, json.dumps(start).encode())
    return in_use


def _check_parent(work: Work[_Training, _Example]) -> None:
    """See that the version in use can be continued with these settings: what is set is in effect, or nothing starts."""
    if work.parent is None:
        return
    record = work.store.get(work.parent)
    back = f"set it back, then {RETRY}, or promote or roll back to a version that has it (tierstream models list)"
    if record.base_model_sha256 not in (None, work.base.sha256):
        raise JobError(f"version {work.parent} in use adapts {record.base_model}, not {work.base.name}", back)
    changed = [name for name, known in record.base_model_parts.items() if known != work.base_parts.get(name)]
    if changed:
        what = " and ".join(name.replace("_", " ") for name in changed)
        raise JobError(f"the {what} of base model {work.base.name} changed since version {work.parent} in use", back)
    before, now = record.settings.get("training"), work.training.model_dump(mode="json")
    for name in ADAPTER_SETTINGS:
        if isinstance(before, dict) and before.get(name, now[name]) != now[name]:
            of = f"jobs.{TRAINED_BY[work.job.tier]}.{name}"
            raise JobError(f"{of} = {now[name]}, but version {work.parent} in use has {before[name]}", back)


def _section(job: TrainingJob, name: str, model: type[_Section]) -> _Section:
    try:
        return model.model_validate(job.settings.get(name, {}))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join([name, *map(str, first["loc"])])
        raise JobError(f"job {job.job_id}'s setting {where} is invalid: {first['msg']}") from error
