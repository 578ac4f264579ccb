"""`python -m trainers.jobs.sft JOB_DIR`: reasoning traces make a better version by SFT, if the gate finds it better."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from datasets import Dataset
from peft import PeftModel
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from schemas.events import Trace
from schemas.job_settings import SftSettings
from trainers.jobs.arguments import common_arguments, on_one_gpu
from trainers.jobs.heldout import held_out_pairs, held_out_traces
from trainers.jobs.judge import Judge, Judgement, judge_sft
from trainers.jobs.process import Tier, main
from trainers.jobs.progress import JobCallback
from trainers.jobs.received import COLUMN, Noting, Received
from trainers.jobs.work import Work, prepare

SftWork = Work[SftSettings, Trace]


class NotingSFTTrainer(Noting, SFTTrainer):
    """TRL's trainer, which notes what it is given."""


def sft_trainer(work: SftWork, policy: PeftModel, received: Received) -> NotingSFTTrainer:
    """Return the trainer; its loss is that of the last answer's tokens alone, as `encode` marks them."""
    settings = work.training
    encoded = [row for one in work.rows for row in one.rows]
    rows = [
        {COLUMN: place, "input_ids": list(row.ids), "assistant_masks": [int(said) for said in row.said]}
        for place, row in enumerate(encoded)
    ]
    trainer = NotingSFTTrainer(
        model=policy,
        args=on_one_gpu(SFTConfig(**common_arguments(settings, work.checkpoints), packing=False)),
        train_dataset=Dataset.from_list(rows),
        processing_class=work.tokenizer,
        callbacks=[JobCallback(settings.checkpoint_interval, received)],
    )
    trainer.note_steps(received)
    return trainer


def judge(work: SftWork, judge: Judge, trained: frozenset[str]) -> Judgement:
    """Judge the trained version on the held-out traces of all jobs, and the held-out pairs."""
    one_in, size = work.gate.held_out_one_in, work.gate.held_out_size
    traces = held_out_traces(work.data_dir, one_in, size, trained)
    pairs = held_out_pairs(work.data_dir, one_in, size, trained)
    return judge_sft(judge, traces, pairs, work.gate)


def _prepare(folder: Path) -> SftWork:
    return prepare(folder, "sft", SftSettings, Trace)


SFT = Tier("sft", "nats a token", _prepare, sft_trainer, judge, lambda work: float(work.gate.sft_margin))

if __name__ == "__main__":
    os.nice(10)  # what takes hours leaves the cores to what takes milliseconds
    sys.exit(main(SFT, sys.argv[1:]))
