"""The policy: a base model with an adapter, a new one or that of the version in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase, set_seed

from schemas.errors import JobError
from schemas.job_settings import TrainingSettings
from trainers.jobs.base_model import BaseModel
from trainers.jobs.chat_template import mark_assistant
from trainers.jobs.snapshot import RETRY

POLICY = "default"
"""The adapter that is trained; TRL and PEFT know it under this name."""
REFERENCE = "ref"
"""TRL's frozen copy of the adapter that a DPO job continues from."""
IN_USE = "in_use"
"""The adapter of the version that the trained one is judged against."""


def load_tokenizer(base: BaseModel) -> PreTrainedTokenizerBase:
    """Return the base model's tokenizer, with the assistant's words marked in its chat template.

    Raises:
        JobError: there is none, or its template can not be marked.
    """
    tokenizer: PreTrainedTokenizerBase = _loaded(AutoTokenizer, base)
    mark_assistant(tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_policy(base: BaseModel, parent: Path | None, settings: TrainingSettings) -> PeftModel:
    """Return the base model with the adapter to train: the parent version's, or a new one, which is neutral.

    Raises:
        JobError: the model cannot be loaded, or has no layer of the names that are set.
    """
    set_seed(settings.seed)
    model = _loaded(AutoModelForCausalLM, base, dtype=torch.float32)
    # Generation's cache is of no use in training.
    model.config.use_cache = False
    if parent is not None:
        return PeftModel.from_pretrained(model, str(parent), adapter_name=POLICY, is_trainable=True)
    names = settings.lora_targets
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=0.0,
        target_modules=names if names == "all-linear" else names.split(","),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config, adapter_name=POLICY)
    except ValueError as error:
        raise JobError(f"jobs' lora_targets = {names} does not fit {base.name}: {_first_line(error)}", RETRY) from error


def save_adapter(policy: PeftModel, base: BaseModel, folder: Path) -> None:
    """Write the trained adapter alone, naming the base model and not where it lies.

    Raises:
        OSError: the disk is full.
    """
    config = policy.peft_config[POLICY]
    config.base_model_name_or_path, config.inference_mode = base.name, True
    # Embeddings are never trained; "auto" would ask the hub about the base model's name.
    policy.save_pretrained(str(folder), selected_adapters=[POLICY], save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    for path in folder.iterdir():
        path.chmod(0o644)


def _loaded(kind: Any, base: BaseModel, **options: Any) -> Any:
    try:
        return kind.from_pretrained(str(base.path), local_files_only=True, **options)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise JobError(f"base model {base.name} cannot be loaded: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
