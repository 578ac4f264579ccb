"""`python -m trainers.jobs.kto JOB_DIR`: labelled answers make a better version by KTO, if the gate finds it better."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from datasets import Dataset
from peft import PeftModel
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer

from schemas.errors import JobError
from schemas.events import LabelledAnswer
from schemas.job_settings import DpoSettings
from trainers.jobs.arguments import common_arguments, on_one_gpu
from trainers.jobs.formats import labelled_messages
from trainers.jobs.heldout import held_out_answers, held_out_pairs, held_out_traces
from trainers.jobs.judge import Judge, Judgement, judge_kto
from trainers.jobs.lora import REFERENCE
from trainers.jobs.process import Tier, main
from trainers.jobs.progress import JobCallback
from trainers.jobs.received import COLUMN, Noting, Received
from trainers.jobs.snapshot import RETRY
from trainers.jobs.work import Work, prepare

KtoWork = Work[DpoSettings, LabelledAnswer]


class NotingKTOTrainer(Noting, KTOTrainer):
    """TRL's trainer, which notes what it is given."""


def kto_trainer(work: KtoWork, policy: PeftModel, received: Received) -> NotingKTOTrainer:
    """Return the trainer; its reference is that of DPO.

    TRL takes the examples in the order given, since it measures the pull to the reference by answers after the prompt
    of the next one in their batch; so they are shuffled here.
    """
    settings = work.training
    rows = [
        {COLUMN: place, "label": one.example.good, **labelled_messages(one.example)}
        for place, one in enumerate(work.rows)
        if one.example is not None
    ]
    random.Random(settings.seed).shuffle(rows)
    good = sum(bool(row["label"]) for row in rows)
    bad = len(rows) - good
    if not (good and bad):
        raise JobError(f"all examples to train on are {'good' if good else 'bad'}", "wait for further ones")
    trainer = NotingKTOTrainer(
        model=policy,
        ref_model=None,
        # Both sides weigh the same: equation 8 of Ethayarajh et al. 2024 asks for a ratio of 1 to 4/3.
        args=on_one_gpu(
            KTOConfig(
                **common_arguments(settings, work.checkpoints),
                beta=settings.beta,
                desirable_weight=max(1.0, bad / good),
                undesirable_weight=max(1.0, good / bad),
            )
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=work.tokenizer,
        callbacks=[JobCallback(settings.checkpoint_interval, received)],
    )
    trainer.note_steps(received)
    if work.parent is None:
        policy.delete_adapter(REFERENCE)
    return trainer


def judge(work: KtoWork, judge: Judge, trained: frozenset[str]) -> Judgement:
    """Judge the trained version on the held-out labelled answers of all jobs, and the held-out pairs and traces."""
    one_in, size = work.gate.held_out_one_in, work.gate.held_out_size
    answers = held_out_answers(work.data_dir, one_in, size, trained)
    pairs = held_out_pairs(work.data_dir, one_in, size, trained)
    traces = held_out_traces(work.data_dir, one_in, size, trained)
    return judge_kto(judge, answers, pairs, traces, work.training.beta, work.gate)


def _prepare(folder: Path) -> KtoWork:
    work = prepare(folder, "kto", DpoSettings, LabelledAnswer)
    if work.training.batch_size < 2:
        raise JobError("KTO compares the answers of a batch, and jobs.dpo.batch_size is 1", f"raise it, then {RETRY}")
    return work


KTO = Tier("kto", "implicit reward", _prepare, kto_trainer, judge, lambda work: float(work.gate.dpo_margin))

if __name__ == "__main__":
    os.nice(10)  # what takes hours leaves the cores to what takes milliseconds
    sys.exit(main(KTO, sys.argv[1:]))
