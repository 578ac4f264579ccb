"""A job's process from its folder to `result.json`; `dpo` and `sft` say how they train and judge."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from datasets import disable_progress_bars
from peft import PeftModel
from pydantic import JsonValue
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.utils import logging as transformers_logging

from schemas.errors import ServingError, TierstreamError
from schemas.events import JobTier
from schemas.versions import VersionRecord
from trainers.files import write_atomically
from trainers.jobs.effective import check_effective, effective_settings
from trainers.jobs.gate import Verdict, decide, fewest_prompts
from trainers.jobs.heldout import id_of
from trainers.jobs.judge import Judge, Judgement
from trainers.jobs.lora import load_policy, save_adapter
from trainers.jobs.progress import TRAINING_SHARE, is_main_process, newest_checkpoint, say
from trainers.jobs.received import Received
from trainers.jobs.room import DISK, want_of_room
from trainers.jobs.snapshot import CHECKPOINTS, RESULT_NAME, RETRY
from trainers.jobs.work import Work, trained_prompts
from trainers.serving import put_into_use, settings_of
from trainers.versions import library_versions
from trainers.versions.store import LINEAGE

GATE_NAME = "gate.jsonl"
"""In a version's folder: the held-out examples that it was judged on, with both sides' figures."""

LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "safetensors", "tokenizers")

_CRASHES_IN = (Path(__file__).parents[2] / "trainers", Path(torch.distributed.__file__).parent)
"""What is raised here is nobody's to mend by settings: our own code, and what connects the processes of one job. There
another one has ended, which says why itself, or was killed; then the job is begun again."""

AnyWork = Work[Any, Any]


@dataclass(frozen=True)
class Tier:
    """How the jobs of a tier are prepared, trained and judged."""

    name: JobTier
    unit: str
    """Of the improvement that the gate judges."""
    prepare: Callable[[Path], AnyWork]
    trainer: Callable[[AnyWork, PeftModel, Received], Trainer]
    judge: Callable[[AnyWork, Judge, frozenset[str]], Judgement]
    margin: Callable[[AnyWork], float]


def run(tier: Tier, folder: Path) -> dict[str, JsonValue]:
    """Train, judge and register a job's version, and return the job's result.

    Raises:
        TierstreamError: the job cannot be run as it is.
        OSError: the disk is full or read-only.
    """
    work = tier.prepare(folder)
    known = {record.version for record in work.store.versions("policy")}
    if work.version not in known:
        if work.training.threads:
            torch.set_num_threads(work.training.threads)
        policy = load_policy(work.base, work.adapter(work.parent), work.training)
        received = work.received()
        trained = _train(tier.trainer(work, policy, received), policy, received, work)
        if not is_main_process():
            return {}
        _add_judged(tier, work, policy, trained)
    record = work.store.get(work.version)
    metrics: dict[str, JsonValue] = {**record.metrics, "reason": record.reason}
    promoted = record.status != "rejected"
    if record.status == "candidate":
        try:
            put_into_use(settings_of(os.environ), work.store, record.version, record.reason)
        except ServingError as error:
            promoted, metrics["reason"] = False, f"{record.reason}; not put into use: {error}"
            print(f"error: {record.version} is not put into use: {error}", file=sys.stderr)
    return {"state": "finished", "metrics": metrics, "error": None, "version": record.version, "promoted": promoted}


def main(tier: Tier, arguments: Sequence[str]) -> int:
    """Run a job's folder and return the exit status: 0 finished, 1 failed, 2 wrong usage."""
    usage = f"usage: python -m trainers.jobs.{tier.name} JOB_DIR\nTrains the job of that folder and writes result.json."
    if list(arguments) in (["-h"], ["--help"]):
        print(usage)
        return 0
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(usage, file=sys.stderr)
        return 2
    folder = Path(arguments[0]).absolute()
    if not folder.is_dir():
        print(f"error: {folder} is no folder; name a job's, jobs/<job_id> in the data directory", file=sys.stderr)
        return 2
    disable_progress_bars()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        result = run(tier, folder)
    except Exception as error:
        reason = reason_of(error)
        if reason is None:
            raise
        if not isinstance(error, TierstreamError):
            traceback.print_exc()  # for the job's log
        result = {"state": "failed", "metrics": {}, "error": reason}
    if not is_main_process() and "error" not in result:
        return 0
    # Of several processes whichever fails first says why, since the launcher ends the others.
    return _finish(folder, result)


def reason_of(error: BaseException) -> str | None:
    """Return in one line why a job failed; None for a crash, of our own code or of another process.

    What a library raises is caused by what it was given: the base model, its template, the data or the settings.
    """
    if isinstance(error, TierstreamError):
        return " ".join(str(error).split())
    if (short := want_of_room(error)) is not None:
        return short
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'} cannot be used: {error.strerror or error}"
    raised_in = traceback.extract_tb(error.__traceback__)
    if not raised_in or any(Path(raised_in[-1].filename).is_relative_to(folder) for folder in _CRASHES_IN):
        return None
    library = _library_of(raised_in[-1].filename)
    return (
        f"{type(error).__name__} in {library}: {' '.join(str(error).split())[:300]}; see the job's log, "
        f"fix the base model, its template or the settings, then {RETRY}"
    )


def _library_of(file_name: str) -> str:
    """Return the name of the package that a source file belongs to."""
    parts = Path(file_name).parts
    return parts[parts.index("site-packages") + 1] if "site-packages" in parts else Path(file_name).stem


@dataclass(frozen=True)
class Trained:
    """What came of a training."""

    ids: frozenset[str]
    """The examples that the trainer was given."""
    effective: dict[str, JsonValue]
    """The settings as they took effect."""
    costs: dict[str, JsonValue]


class _CheckSettings(TrainerCallback):
    """Compares the settings with what was built, before the first step."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Compare.

        Raises:
            JobError: a setting did not take effect.
        """
        self._check()


def _train(trainer: Trainer, policy: PeftModel, received: Received, work: AnyWork) -> Trained:
    """Train from the newest checkpoint, or from the start."""
    effective: dict[str, JsonValue] = {}

    def check() -> None:
        effective.update(effective_settings(trainer, policy))
        check_effective(work.training, effective, work.job.tier)

    checkpoint = newest_checkpoint(work.checkpoints)
    resumed: dict[str, JsonValue] = {}
    if checkpoint is not None:
        received.read(checkpoint)
        resumed["resumed_from"] = checkpoint.name
    say(TRAINING_SHARE[0], stage="train", **_counts_before(work), **resumed)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_CheckSettings(check))
    begun, busy = time.perf_counter(), time.process_time()
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - busy
    # In bf16 it is only trained: a version is judged as it is loaded again, in float32.
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    ids = received.trained(whole_pass=(trainer.state.epoch or 0) >= 1)
    losses: list[JsonValue] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    steps = trainer.state.global_step
    done_here = steps - (0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2]))
    tokens = max((entry.get("num_tokens", 0) for entry in trainer.state.log_history), default=0)
    costs: dict[str, JsonValue] = {
        "steps": steps,
        "losses": losses,
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "seconds_per_step": seconds / max(done_here, 1),
        "cpu_seconds_per_step": cpu_seconds / max(done_here, 1),
        "train_tokens": tokens,
        "device": str(trainer.args.device),
        "threads": torch.get_num_threads(),
        **gpu_peak(),
    }
    return Trained(ids, effective, costs)


def _counts_before(work: AnyWork) -> dict[str, JsonValue]:
    """Return what is known of the examples before training."""
    ids = frozenset(id_of(one) for one in work.examples.training)
    counts = work.record(ids).counts()
    return {"to_train_on": counts.pop("trained_on"), **counts}


def gpu_peak() -> dict[str, JsonValue]:
    """Return what this process's tensors took of the GPU at most, in MiB; nothing where there is none."""
    if not torch.cuda.is_available():
        return {}
    return {"peak_gpu_memory_mib": torch.cuda.max_memory_allocated() // 2**20}


def _add_judged(tier: Tier, work: AnyWork, policy: PeftModel, trained: Trained) -> None:
    say(TRAINING_SHARE[1], stage="gate")
    in_use = work.store.in_use("policy").version
    judge = Judge(policy, work.tokenizer, work.adapter(in_use), work.training.max_length)
    # Mostly the same one: its ancestors' lineages are read once.
    known = frozenset().union(*(trained_prompts(work.store, one) for one in {in_use, work.parent}))
    judgement = tier.judge(work, judge, known)
    verdict = decide(
        judgement.improvement,
        tier.margin(work),
        judgement.regressions,
        tier.unit,
        beyond_form="not asked" if work.gate.sft_form_alone else judgement.beyond_form,
        fewest=fewest_prompts(work.gate.confidence),
    )
    examples = work.record(trained.ids)
    figures = {**judgement.figures, **trained.costs, "judged_against": in_use or work.base.name, **examples.counts()}
    record = _record(work, verdict, figures, trained.effective)
    with work.store.staging(work.version) as staging:
        save_adapter(policy, work.base, staging)
        write_atomically(staging / LINEAGE, b"".join(examples.lines()))
        write_atomically(staging / GATE_NAME, b"".join(json.dumps(row).encode() + b"\n" for row in judgement.rows))
        work.store.add(record, staging)


def _record(
    work: AnyWork, verdict: Verdict, figures: dict[str, JsonValue], effective: dict[str, JsonValue]
) -> VersionRecord:
    counts: dict[str, JsonValue] = {
        "examples": work.job.example_count,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    return VersionRecord(
        tier=work.job.tier,
        version=work.version,
        status="candidate" if verdict.promoted else "rejected",
        parent_version=work.parent,
        created_at=datetime.now(UTC),
        job_id=work.job.job_id,
        reason=verdict.reason,
        metrics={**figures, **counts},
        settings={**work.job.settings, "effective": effective, "format_version": work.format_version},
        base_model=work.base.name,
        base_model_sha256=work.base.sha256,
        base_model_parts=work.base_parts,
        libraries=library_versions(*LIBRARIES),
        seed=work.training.seed,
        dataset_sha256=work.job.dataset_sha256,
    )


def _finish(folder: Path, result: dict[str, JsonValue]) -> int:
    """Write the result; on a full disk the checkpoints give way to it, since it says what happened."""
    data = json.dumps(result).encode()
    try:
        write_atomically(folder / RESULT_NAME, data)
    except OSError as error:
        if error.errno not in DISK:
            print(f"error: {folder / RESULT_NAME} cannot be written: {error.strerror}", file=sys.stderr)
            return 1
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        write_atomically(folder / RESULT_NAME, data)
    if result["error"] is not None:
        print(f"error: {result['error']}", file=sys.stderr)
        return 1
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    say(1.0, stage="done", version=result["version"], promoted=result["promoted"])
    return 0
