"""`python -m trainers.jobs.dpo JOB_DIR`: preference pairs make a better version by DPO, if the gate finds it better."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from datasets import Dataset
from peft import PeftModel
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from schemas.events import PreferencePair
from schemas.job_settings import DpoSettings
from trainers.jobs.arguments import common_arguments, on_one_gpu
from trainers.jobs.formats import pair_messages
from trainers.jobs.heldout import held_out_pairs, held_out_traces
from trainers.jobs.judge import Judge, Judgement, judge_dpo
from trainers.jobs.lora import REFERENCE
from trainers.jobs.process import Tier, main
from trainers.jobs.progress import JobCallback
from trainers.jobs.received import COLUMN, Noting, Received
from trainers.jobs.work import Work, prepare

DpoWork = Work[DpoSettings, PreferencePair]


class NotingDPOTrainer(Noting, DPOTrainer):
    """TRL's trainer, which notes what it is given."""


def dpo_trainer(work: DpoWork, policy: PeftModel, received: Received) -> NotingDPOTrainer:
    """Return the trainer; its reference is the policy as it begins, which is the version in use.

    TRL copies the adapter that the policy carries into a frozen one named `ref`.
    """
    settings = work.training
    rows = [
        {COLUMN: place, **pair_messages(one.example)} for place, one in enumerate(work.rows) if one.example is not None
    ]
    trainer = NotingDPOTrainer(
        model=policy,
        ref_model=None,
        args=on_one_gpu(DPOConfig(**common_arguments(settings, work.checkpoints), beta=settings.beta)),
        train_dataset=Dataset.from_list(rows),
        processing_class=work.tokenizer,
        callbacks=[JobCallback(settings.checkpoint_interval, received)],
    )
    trainer.note_steps(received)
    if work.parent is None:
        # A new adapter changes nothing yet, so the reference is the base model, which is quicker without a copy of it.
        policy.delete_adapter(REFERENCE)
    return trainer


def judge(work: DpoWork, judge: Judge, trained: frozenset[str]) -> Judgement:
    """Judge the trained version on the held-out pairs of all jobs, and the held-out traces."""
    one_in, size = work.gate.held_out_one_in, work.gate.held_out_size
    pairs = held_out_pairs(work.data_dir, one_in, size, trained)
    traces = held_out_traces(work.data_dir, one_in, size, trained)
    return judge_dpo(judge, pairs, traces, work.training.beta, work.gate)


def _prepare(folder: Path) -> DpoWork:
    return prepare(folder, "dpo", DpoSettings, PreferencePair)


DPO = Tier("dpo", "implicit reward", _prepare, dpo_trainer, judge, lambda work: float(work.gate.dpo_margin))

if __name__ == "__main__":
    os.nice(10)  # what takes hours leaves the cores to what takes milliseconds
    sys.exit(main(DPO, sys.argv[1:]))
