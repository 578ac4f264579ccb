"""What a running job says on its standard output, and the trainer's callback: progress, checkpoints, a lost loss."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from schemas.errors import JobError
from trainers.files import sync_folder, write_atomically
from trainers.jobs.received import Received
from trainers.jobs.snapshot import RETRY

TRAINING_SHARE = (0.05, 0.9)
"""Share of a job's progress at which training begins and ends; before it is the base model, after it the gate."""

_REPORTED = ("loss", "grad_norm", "learning_rate", "rewards/accuracies", "rewards/margins", "mean_token_accuracy")

COMPLETE_NAME = "complete"
"""Marks a checkpoint that was written as a whole."""


def is_main_process() -> bool:
    """Whether this is the process that reports and writes: the first one where a launcher started several."""
    return int(os.environ.get("RANK", "0")) == 0


def say(progress: float, **metrics: JsonValue) -> None:
    """Print one line of progress, as the trainer reads it."""
    if is_main_process():
        print(json.dumps({"progress": round(progress, 4), "metrics": metrics}), flush=True)


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint of a job."""
    whole = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE_NAME}")]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


class JobCallback(TrainerCallback):
    """Reports each step, stops at a loss that is no number, and asks for checkpoints by the clock.

    Args:
        checkpoint_interval: seconds between checkpoints.
        received: what was trained on, which each checkpoint keeps.
    """

    def __init__(self, checkpoint_interval: float, received: Received) -> None:
        self.interval = checkpoint_interval
        self._received = received
        self._saved_at = time.monotonic()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """See that the step size reaches its height.

        Raises:
            JobError: the run ends within the warm-up.
        """
        if args.warmup_steps >= state.max_steps:
            raise JobError(
                f"warmup_steps = {args.warmup_steps:g}, but the whole run has {state.max_steps} steps",
                f"lower it, or raise epochs, then {RETRY}",
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Ask for a checkpoint where the last one is old."""
        is_due = time.monotonic() - self._saved_at >= self.interval and state.global_step < state.max_steps
        if _agreed(is_due, args.device):
            control.should_save = True
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Report the step.

        Raises:
            JobError: the loss is NaN or infinite.
        """
        loss = (logs or {}).get("loss")
        if loss is None:
            return
        if not math.isfinite(loss):
            raise JobError(f"the loss became {loss} at step {state.global_step}", f"lower learning_rate, then {RETRY}")
        begin, end = TRAINING_SHARE
        done = begin + (end - begin) * state.global_step / max(state.max_steps, 1)
        figures: dict[str, JsonValue] = {
            name.rpartition("/")[2]: round(value, 5) for name, value in (logs or {}).items() if name in _REPORTED
        }
        say(done, stage="train", step=state.global_step, steps=state.max_steps, **figures)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Make the checkpoint durable, then mark it as whole.

        The copy of the version in use that TRL keeps beside the policy is dropped: resuming would load that alone,
        and leave the policy as it began.
        """
        self._saved_at = time.monotonic()
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # each process writes the state of its own random numbers
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        self._received.write(folder)
        if not is_main_process():
            return
        shutil.rmtree(folder / "ref", ignore_errors=True)
        for path in folder.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(folder)
        write_atomically(folder / COMPLETE_NAME, b"")


def _agreed(answer: bool, device: torch.device) -> bool:
    """Return the main process's answer in every process: a checkpoint is written by all of them, or they would wait."""
    if not torch.distributed.is_initialized():
        return answer
    shared = torch.tensor(int(answer), device=device)
    torch.distributed.broadcast(shared, src=0)
    return bool(shared)
