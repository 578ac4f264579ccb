"""The shortest TRL script that trains a job's examples: what `benchmarks.job_cost` compares a job with."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from trainers.jobs import dpo, sft
from trainers.jobs.arguments import common_arguments
from trainers.jobs.chat_template import mark_assistant
from trainers.jobs.formats import pair_messages, trace_messages
from trainers.jobs.process import gpu_peak


def main(folder: Path) -> None:
    """Train with TRL alone and print what it took, as JSON."""
    tier = folder.name[:3]
    work = (dpo.DPO if tier == "dpo" else sft.SFT).prepare(folder)
    settings = work.training
    torch.set_num_threads(settings.threads)
    tokenizer = AutoTokenizer.from_pretrained(work.base.path)
    mark_assistant(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(work.base.path, dtype=torch.float32)
    adapter = LoraConfig(r=settings.lora_rank, lora_alpha=settings.lora_alpha, target_modules=settings.lora_targets)
    with tempfile.TemporaryDirectory() as output:
        arguments = {**common_arguments(settings, Path(output)), "remove_unused_columns": True}
        examples = [one.example for one in work.rows if one.example is not None]
        trainer: DPOTrainer | SFTTrainer
        if tier == "dpo":
            rows = [pair_messages(pair) for pair in examples]
            trainer = DPOTrainer(
                model=model,
                args=DPOConfig(**arguments, beta=settings.beta),
                train_dataset=Dataset.from_list(rows),
                processing_class=tokenizer,
                peft_config=adapter,
            )
        else:
            trainer = SFTTrainer(
                model=model,
                args=SFTConfig(**arguments, assistant_only_loss=True),
                train_dataset=Dataset.from_list([{"messages": trace_messages(trace)} for trace in examples]),
                processing_class=tokenizer,
                peft_config=adapter,
            )
        begun, busy = time.perf_counter(), time.process_time()
        trainer.train()
        seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - busy
        peak = gpu_peak()
        trainer.save_model(output)
    steps = trainer.state.global_step
    told = {
        "steps": steps,
        "seconds_per_step": seconds / steps,
        "cpu_seconds_per_step": cpu_seconds / steps,
        "train_tokens": max(entry.get("num_tokens", 0) for entry in trainer.state.log_history),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        **peak,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
