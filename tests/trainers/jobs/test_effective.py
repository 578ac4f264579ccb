"""Every training setting has its effect within a real training: read back from what was built, and compared."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from schemas.job_settings import DpoSettings, SftSettings
from tests.trainers.jobs import tiny
from tests.trainers.jobs.running import TIERS, run
from tests.trainers.jobs.test_training import TIER_MODULES
from trainers.jobs.arguments import common_arguments
from trainers.jobs.lora import load_policy
from trainers.jobs.work import Work
from trainers.versions import VersionStore

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"), pytest.mark.long]

OTHER: dict[str, Any] = {
    "learning_rate": 2e-3,
    "warmup_steps": 2,
    "epochs": 3,
    "max_steps": 4,
    "batch_size": 3,
    "gradient_accumulation": 1,
    "max_length": 120,
    "gradient_checkpointing": True,
    "lora_rank": 2,
    "lora_alpha": 6,
    "lora_targets": "v_proj,q_proj",
    "seed": 7,
    "checkpoint_interval": 9.0,
    "threads": 2,
    "beta": 0.3,
}


def job(tmp_path, base, tier, **training):
    examples = tiny.pairs(24) if tier == "dpo" else tiny.traces(24)
    wanted = tiny.settings(base)
    section = getattr(wanted.jobs, tier).model_copy(update=training)
    jobs = wanted.jobs.model_copy(update={tier: section})
    return tiny.job(tmp_path, tier, examples, wanted.model_copy(update={"jobs": jobs}))


@pytest.mark.parametrize(("tier", "model"), [("dpo", DpoSettings), ("sft", SftSettings)])
def test_each_setting_takes_effect_and_its_version_says_so(tiny_base, tmp_path, tier, model):
    """A setting that is added fails here by name until it is read back."""
    wanted = {name: OTHER[name] for name in model.model_fields}
    code, result = run(job(tmp_path, tiny_base, tier, **wanted))
    assert (code, result["error"]) == (0, None)
    record = VersionStore(tmp_path).get(result["version"])
    effective = record.settings["effective"]
    assert isinstance(effective, dict)
    found = {name: effective[name] for name in wanted}
    assert found == {**wanted, "lora_targets": "q_proj,v_proj"}
    assert effective["lora_layers"] == 4  # two a layer, of two layers
    usual = vars(getattr(tiny.settings(tiny_base).jobs, tier))
    assert [name for name in wanted if usual[name] == wanted[name]] == []


FIXED: dict[str, Any] = {
    "learning_rate": 1e-4,
    "warmup_steps": 1,
    "num_train_epochs": 2,
    "max_steps": 1,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "max_length": 127,
    "gradient_checkpointing": True,
    "seed": 3,
}
NAMES = {
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "gradient_accumulation",
}


@pytest.mark.parametrize("argument", FIXED)
def test_a_setting_that_is_fixed_in_the_trainer_fails_the_job_by_name(tiny_base, tmp_path, monkeypatch, argument):
    monkeypatch.setattr(
        TIER_MODULES["sft"], "common_arguments", lambda *given: {**common_arguments(*given), argument: FIXED[argument]}
    )
    _, result = run(job(tmp_path, tiny_base, "sft"))
    name = NAMES.get(argument, argument)
    assert result["state"] == "failed"
    assert f"jobs.sft.{name} = " in result["error"]
    assert f"but {FIXED[argument]} took effect" in result["error"] or name == "seed"


@pytest.mark.parametrize(
    ("part", "value"), [("lora_rank", 2), ("lora_alpha", 5), ("lora_targets", "q_proj"), ("seed", 9)]
)
def test_an_adapter_that_is_built_otherwise_fails_the_job_by_name(tiny_base, tmp_path, monkeypatch, part, value):
    from trainers.jobs import process

    monkeypatch.setattr(
        process,
        "load_policy",
        lambda base, parent, settings: load_policy(base, parent, settings.model_copy(update={part: value})),
    )
    _, result = run(job(tmp_path, tiny_base, "sft"))
    assert result["state"] == "failed"
    assert f"jobs.sft.{part} = " in result["error"]


def test_a_beta_that_is_fixed_fails_the_job_by_name(tiny_base, tmp_path, monkeypatch):
    from trainers.jobs import dpo

    config = dpo.DPOConfig
    monkeypatch.setattr(dpo, "DPOConfig", lambda **given: config(**{**given, "beta": 0.5}))
    _, result = run(job(tmp_path, tiny_base, "dpo"))
    assert "jobs.dpo.beta = 0.1 was asked for, but 0.5 took effect" in result["error"]


def test_the_seed_draws_the_adapters_first_weights(tiny_base, tmp_path):
    work: Work[Any, Any] = TIERS["sft"].prepare(job(tmp_path, tiny_base, "sft"))
    first, again, other = (
        next(w for name, w in load_policy(work.base, None, one).named_parameters() if "lora_A" in name)
        for one in (work.training, work.training, work.training.model_copy(update={"seed": 1}))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_warm_up_longer_than_the_run_is_refused(tiny_base, tmp_path):
    _, result = run(job(tmp_path, tiny_base, "sft", warmup_steps=50))
    assert "warmup_steps = 50, but the whole run has" in result["error"]
