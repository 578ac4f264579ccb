"""The policy: a base model with an adapter, a new one or that of the version in use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from schemas.errors import JobError
from schemas.job_settings import TrainingSettings
from trainers.jobs.base_model import BaseModel
from trainers.jobs.chat_template import mark_assistant
from trainers.jobs.encode import first_line
from trainers.jobs.room import want_of_room
from trainers.jobs.snapshot import RETRY

POLICY = "default"
"""The adapter that is trained; TRL and PEFT know it under this name."""
ADAPTER_SEED = "adapter_seed"
"""Attribute of a policy: the seed that its adapter's first weights were drawn with."""
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


def check_sizes(base: BaseModel, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
    """See that the base model can take the tokenizer's tokens, and as many of them as an example may have.

    Raises:
        JobError: its context is shorter than `max_length`, or the tokenizer has tokens that it has no embedding for.
    """
    config = _loaded(AutoConfig, base).get_text_config()
    context = getattr(config, "max_position_embeddings", None)
    if context is not None and context < max_length:
        raise JobError(
            f"max_length = {max_length}, but base model {base.name} has a context of {context} tokens",
            f"lower max_length, then {RETRY}",
        )
    if len(tokenizer) > config.vocab_size:
        raise JobError(
            f"the tokenizer of base model {base.name} has {len(tokenizer)} tokens, "
            f"the model embeddings for {config.vocab_size}",
            f"put model and tokenizer of one kind together, then {RETRY}",
        )


def load_policy(base: BaseModel, parent: Path | None, settings: TrainingSettings) -> PeftModel:
    """Return the base model with the adapter to train: the parent version's, or a new one, which is neutral.

    Raises:
        JobError: the model cannot be loaded, or has no layer of the names that are set.
    """
    set_seed(settings.seed)
    model = _loaded_model(base)
    # Generation's cache is of no use in training.
    model.config.use_cache = False
    if parent is not None:
        policy = PeftModel.from_pretrained(model, str(parent), adapter_name=POLICY, is_trainable=True)
        setattr(policy, ADAPTER_SEED, torch.initial_seed())
        return policy
    names = settings.lora_targets
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=0.0,
        target_modules=names if names == "all-linear" else names.split(","),
        task_type="CAUSAL_LM",
    )
    try:
        policy = get_peft_model(model, config, adapter_name=POLICY)
    except ValueError as error:
        raise JobError(f"jobs' lora_targets = {names} does not fit {base.name}: {first_line(error)}", RETRY) from error
    setattr(policy, ADAPTER_SEED, torch.initial_seed())
    return policy


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


def _loaded_model(base: BaseModel) -> PreTrainedModel:
    """Return the base model after every tensor of it was found in its files, and nothing else there."""
    # Of another shape is loaded too, at random, so that it can be named here instead of in a report on the screen.
    options = {"dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": True}
    model, found = _loaded(AutoModelForCausalLM, base, **options)
    wrong = {
        "lacks": sorted(found["missing_keys"]),
        "has beside it": sorted(found["unexpected_keys"]),
        "has in another shape": sorted(
            str(one[0] if isinstance(one, tuple) else one) for one in found["mismatched_keys"]
        ),
    }
    said = [f"{what} {_some(names)}" for what, names in wrong.items() if names]
    if said:
        raise JobError(
            f"base model {base.name} is not whole: it {' and '.join(said)}",
            f"fetch or save it again, or set jobs.base_model to another, then {RETRY}",
        )
    return cast(PreTrainedModel, model)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _loaded(kind: Any, base: BaseModel, **options: Any) -> Any:
    try:
        return kind.from_pretrained(str(base.path), local_files_only=True, **options)
    except Exception as error:  # whatever it is, the model's files are its cause
        if want_of_room(error) is not None:
            raise
        raise JobError(
            f"base model {base.name} cannot be loaded: {first_line(error)}",
            f"fix its files, or set jobs.base_model to another, then {RETRY}",
        ) from error
