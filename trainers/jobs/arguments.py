"""A job's settings as TRL takes them; what TRL would otherwise decide by itself is said here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import TrainingArguments

from schemas.job_settings import TrainingSettings

_Arguments = TypeVar("_Arguments", bound=TrainingArguments)


def common_arguments(settings: TrainingSettings, folder: Path) -> dict[str, Any]:
    """Return the arguments that DPOConfig and SFTConfig share.

    Args:
        settings: of the job.
        folder: for checkpoints.
    """
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(folder),
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": settings.warmup_steps,
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "max_length": settings.max_length,
        "max_grad_norm": 1.0,
        "weight_decay": 0.0,
        "seed": settings.seed,
        # On a CPU bf16 hardly learns.
        "bf16": on_gpu and torch.cuda.is_bf16_supported(),
        # Each example carries its place, by which is noted what was trained on.
        "remove_unused_columns": False,
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        # Every weight of an adapter takes part in each step, so several processes need not look for those that do not.
        "ddp_find_unused_parameters": False,
        "logging_steps": 1,
        # The default would replace a NaN by the mean of the losses before it.
        "logging_nan_inf_filter": False,
        # Checkpoints come by the clock, from our callback.
        "save_strategy": "no",
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
    }


def on_one_gpu(arguments: _Arguments) -> _Arguments:
    """Return the arguments for one process on one GPU, whichever are visible; `torchrun` starts a process for each.

    transformers would have one process use all of them by a thread each, which TRL refuses.
    """
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments
