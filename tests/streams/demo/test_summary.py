"""How the demo tells what happened."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from schemas.events import JobTier, JobUpdate, TrainingJob
from schemas.settings import Settings
from streams.demo.board import Board
from streams.demo.room import simulate
from streams.demo.summary import Summary, show, summarize
from trainers.pairs.funnel import empty_funnel

START = datetime(2026, 1, 1, tzinfo=UTC)


def status(dpo_jobs: int = 1) -> dict[str, Any]:
    funnel = empty_funnel()
    funnel["widget"]["answers"] = 7
    funnel["widget"]["dropped"]["chosen_no_confidence"] = 3
    return {
        "scorer": {"parameters": 28193, "step": 12, "groups_learned": 30},
        "dpo": {"distinct": 85, "waiting": 5 if dpo_jobs else 57, "threshold": 80, "jobs": dpo_jobs},
        "sft": {"distinct": 127, "waiting": 27, "threshold": 100, "jobs": 1},
        "pair_funnel": funnel,
    }


def board(*tiers: JobTier, state: str = "validated", error: str | None = None) -> Board:
    found = Board(simulate(seed=2, count=1, start=START))
    found.unscored.clear()
    found.unlearned.clear()
    for tier in tiers:
        found.take(TrainingJob.model_construct(job_id=f"{tier}-1", tier=tier, example_count=80))
        found.take(
            JobUpdate.model_construct(
                job_id=f"{tier}-1", tier=tier, state=state, error=error, metrics={"examples": 80}, timestamp=START
            )
        )
    return found


def text_of(summary: Summary) -> str:
    output = io.StringIO()
    show(summary, Console(width=160, file=output))
    return output.getvalue()


def test_three_tiers_that_ended_are_completed() -> None:
    summary = summarize(board("dpo", "sft"), status(), Settings(), 12.34)
    assert [tier.state for tier in summary.tiers] == ["COMPLETED"] * 3
    assert summary.unfinished == []
    assert summary.tiers[1].figures == (
        "85 preference pairs, 5 of 80 towards the next job",
        "dpo-1 validated",
    )


def test_a_trained_version_is_told_with_the_figures_of_its_gate() -> None:
    trained = board("dpo", "sft", state="finished")
    figures = {
        "version": "dpo-1a2b",
        "promoted": True,
        "reason": "better on 9 held-out prompts: +0.1",
        "steps": 8,
        "trained_on": 71,
        "loss_first": 0.693,
        "losses": [0.693, 0.4, 0.8],
        "seconds_per_step": 2.5,
        "held_out": 9,
        "implicit_accuracy": 0.888,
        "implicit_margin": 0.1,
    }
    trained.states["dpo-1"] = trained.states["dpo-1"].model_copy(update={"metrics": figures})
    assert summarize(trained, status(), Settings(), 1.0).tiers[1].figures[1:] == (
        "dpo-1a2b promoted: better on 9 held-out prompts: +0.1",
        "8 steps on 71 examples, loss 0.693 at first, 0.600 on average afterwards, 2.500 s a step",
        "held out: 9 examples, implicit accuracy 0.888, implicit margin 0.100",
    )


def test_a_tier_without_a_job_is_skipped_with_what_is_missing() -> None:
    summary = summarize(board("sft"), status(dpo_jobs=0), Settings(), 1.0)
    assert (summary.tiers[1].state, summary.tiers[1].figures[0]) == ("SKIPPED", "23 more needed")
    assert summary.unfinished == ["2 DPO"]


def test_a_failed_job_fails_its_tier_with_the_reason() -> None:
    summary = summarize(board("dpo", state="failed", error="no disk"), status(), Settings(), 1.0)
    assert (summary.tiers[1].state, summary.tiers[1].figures[0]) == ("FAILED", "1 of 1 jobs: no disk")


def test_events_without_a_score_update_fail_the_first_tier() -> None:
    unscored = board("dpo", "sft")
    unscored.unscored.add("room-2-00000")
    summary = summarize(unscored, status(), Settings(), 1.0)
    assert (summary.tiers[0].state, summary.tiers[0].figures[0]) == ("FAILED", "1 events without a score update")


def test_configured_and_effective_parameters_stand_side_by_side() -> None:
    summary = summarize(board("dpo", "sft"), status(), Settings(), 1.0)
    assert (summary.parameters_configured, summary.parameters_effective) == (28193, 28193)
    assert "scorer parameters: 28,193 configured, 28,193 in effect" in text_of(summary)
