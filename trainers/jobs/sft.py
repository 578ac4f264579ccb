"""`python -m trainers.jobs.sft JOB_DIR`: reasoning traces make a better version by SFT, if the gate finds it better."""

from __future__ import annotations

import sys
from pathlib import Path

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from schemas.errors import JobError
from schemas.events import Trace
from schemas.job_settings import SftSettings
from trainers.jobs.arguments import common_arguments, on_one_gpu
from trainers.jobs.encode import fit_trace
from trainers.jobs.formats import trace_messages
from trainers.jobs.heldout import held_out_pairs, held_out_traces
from trainers.jobs.judge import Judge, Judgement, judge_sft
from trainers.jobs.process import Tier, main
from trainers.jobs.progress import TRAINING_SHARE, JobCallback, say
from trainers.jobs.snapshot import RETRY
from trainers.jobs.work import Work, prepare

SftWork = Work[SftSettings, Trace]


def sft_trainer(work: SftWork, policy: PeftModel, tokenizer: PreTrainedTokenizerBase) -> SFTTrainer:
    """Return the trainer; its loss is that of the assistant's tokens alone.

    Raises:
        JobError: no trace fits.
    """
    settings = work.training
    fitted = [fit_trace(tokenizer, trace, settings.max_length) for trace in work.examples.training]
    traces = [trace for trace, _ in fitted if trace is not None]
    if not traces:
        raise JobError(
            f"no trace of job {work.job.job_id} fits {settings.max_length} tokens", f"raise max_length, then {RETRY}"
        )
    say(TRAINING_SHARE[0], thinking_cut=sum(cut for _, cut in fitted), too_long=len(fitted) - len(traces))
    return SFTTrainer(
        model=policy,
        args=on_one_gpu(
            SFTConfig(**common_arguments(settings, work.checkpoints), assistant_only_loss=True, packing=False)
        ),
        train_dataset=Dataset.from_list([{"messages": trace_messages(trace)} for trace in traces]),
        processing_class=tokenizer,
        callbacks=[JobCallback(settings.checkpoint_interval)],
    )


def judge(work: SftWork, judge: Judge, trained: frozenset[str]) -> Judgement:
    """Judge the trained version on the held-out traces of all jobs."""
    one_in, size = work.gate.held_out_one_in, work.gate.held_out_size
    traces = held_out_traces(work.data_dir, one_in, size, trained)
    pairs = held_out_pairs(work.data_dir, one_in, size, frozenset())
    return judge_sft(judge, traces, pairs, work.gate.confidence)


def _prepare(folder: Path) -> SftWork:
    return prepare(folder, "sft", SftSettings, Trace)


SFT = Tier("sft", "nats a token", _prepare, sft_trainer, judge, lambda work: float(work.gate.sft_margin))

if __name__ == "__main__":
    sys.exit(main(SFT, sys.argv[1:]))
