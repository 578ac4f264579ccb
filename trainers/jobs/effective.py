"""The training settings as they took effect, read back from the trainer, its optimizer and the adapter as built."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from pydantic import JsonValue
from transformers import Trainer
from transformers.pytorch_utils import Conv1D

from schemas.errors import JobError
from schemas.events import JobTier
from schemas.job_settings import TRAINED_BY, TrainingSettings
from trainers.jobs.lora import ADAPTER_SEED, POLICY
from trainers.jobs.progress import JobCallback


def effective_settings(trainer: Trainer, policy: PeftModel) -> dict[str, JsonValue]:
    """Return each training setting's effective value, by the setting's name.

    Args:
        trainer: after it has made its optimizer and schedule, as in a training that has begun.
        policy: the model with the trained adapter.
    """
    arguments: Any = trainer.args
    found: dict[str, JsonValue] = {
        "learning_rate": _of_optimizer(trainer),
        "warmup_steps": _warmup_steps(trainer),
        "epochs": int(arguments.num_train_epochs),
        "max_steps": max(0, arguments.max_steps),
        "batch_size": arguments.per_device_train_batch_size,
        "gradient_accumulation": arguments.gradient_accumulation_steps,
        "max_length": arguments.max_length,
        "gradient_checkpointing": bool(policy.get_base_model().is_gradient_checkpointing),
        "seed": arguments.seed if arguments.seed == getattr(policy, ADAPTER_SEED) else None,
        "checkpoint_interval": next(
            one.interval for one in trainer.callback_handler.callbacks if isinstance(one, JobCallback)
        ),
        "threads": torch.get_num_threads(),
        **_of_adapter(policy),
    }
    if hasattr(trainer, "beta"):
        found["beta"] = trainer.beta
    return found


def check_effective(settings: TrainingSettings, effective: dict[str, JsonValue], tier: JobTier) -> None:
    """See that each setting took effect.

    Raises:
        JobError: one did not; it is named with both values.
    """
    for name, wanted in settings.model_dump(mode="json").items():
        found = effective[name]
        if name == "threads" and wanted == 0:
            continue  # left to torch
        same = _same_targets(str(wanted), effective) if name == "lora_targets" else found == wanted
        if not same:
            raise JobError(
                f"jobs.{TRAINED_BY[tier]}.{name} = {wanted} was asked for, but {found} took effect",
                "report this, nothing was kept",
            )


def _of_optimizer(trainer: Trainer) -> float | None:
    """Return the step size after warm-up, the same for all weights; None where it is not."""
    rates = {group["initial_lr"] for group in _optimizer(trainer).param_groups}
    return rates.pop() if len(rates) == 1 else None


def _optimizer(trainer: Trainer) -> Any:
    return getattr(trainer.optimizer, "optimizer", trainer.optimizer)


def _warmup_steps(trainer: Trainer) -> int:
    """Return how many steps the schedule's factor takes to reach its height."""
    schedule: Any = trainer.lr_scheduler
    factor = getattr(schedule, "scheduler", schedule).lr_lambdas[0]
    step = 0
    while factor(step) < factor(step + 1):
        step += 1
    return step


def _of_adapter(policy: PeftModel) -> dict[str, JsonValue]:
    """Return rank, alpha and layers of the adapter, from its weights."""
    layers: dict[str, Any] = {name: part for name, part in policy.named_modules() if isinstance(part, LoraLayer)}
    ranks = {part.lora_A[POLICY].weight.shape[0] for part in layers.values()}
    alphas = {round(part.scaling[POLICY] * part.lora_A[POLICY].weight.shape[0], 6) for part in layers.values()}
    base: Any = policy.get_base_model()
    linear = sum(isinstance(part, (torch.nn.Linear, Conv1D)) for part in base.modules())
    head = base.get_output_embeddings()
    # Each layer with an adapter is three linear ones: its own, and the adapter's two.
    others = linear - sum(1 + 2 * len(part.lora_A) for part in layers.values()) - isinstance(head, torch.nn.Linear)
    return {
        "lora_rank": ranks.pop() if len(ranks) == 1 else None,
        "lora_alpha": alphas.pop() if len(alphas) == 1 else None,
        "lora_targets": ",".join(sorted({name.rpartition(".")[2] for name in layers})),
        "lora_layers": len(layers),
        "linear_layers_without": others,
    }


def _same_targets(wanted: str, effective: dict[str, JsonValue]) -> bool:
    if wanted == "all-linear":
        return effective["linear_layers_without"] == 0
    found = str(effective["lora_targets"]).split(",")
    return sorted({name.rpartition(".")[2] for name in wanted.split(",")}) == found
