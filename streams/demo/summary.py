"""How a demo ended: each tier, and where the data is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

from rich.table import Table

from schemas.events import JobTier, JobUpdate
from schemas.settings import Settings
from streams.demo.board import TIER_NAMES, Board
from streams.terminal import Console
from trainers.scorer.architecture import expected_parameters

GATE_FIGURES: Mapping[str, str] = {
    "held_out": "examples",
    "implicit_accuracy": "implicit accuracy",
    "implicit_margin": "implicit margin",
    "accuracy": "accuracy",
    "accuracy_in_use": "accuracy in use before",
    "loss": "loss",
    "loss_in_use": "loss in use before",
    "other_tier_regression": "loss added on the other tier's text",
    "other_tier_accuracy_loss": "accuracy taken from the other tier's pairs",
}
"""The gate's figures that are shown, and what they are called."""

TierState = Literal["COMPLETED", "SKIPPED", "FAILED"]


@dataclass(frozen=True, slots=True)
class Tier:
    """How one tier ended."""

    name: str
    state: TierState
    figures: tuple[str, ...]
    """What happened, a line each; the reason first where it is not COMPLETED."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How a demo ended."""

    tiers: tuple[Tier, ...]
    parameters_configured: int
    parameters_effective: int | None
    """Read back from the running scorer; None where no worker told."""
    accuracy: Mapping[str, Any]
    """Progressive pairwise accuracy against the hidden taste over the first and the last tenth of the answers."""
    funnel: Mapping[str, Any]
    data_dir: str
    seconds: float
    """From the first event published to the last one processed."""

    @property
    def unfinished(self) -> list[str]:
        """Names of the tiers that did not come to their end."""
        return [tier.name for tier in self.tiers if tier.state != "COMPLETED"]

    def as_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return asdict(self)


def summarize(board: Board, status: Mapping[str, Any], settings: Settings, seconds: float) -> Summary:
    """Put together what happened.

    Args:
        board: what was read from the stream.
        status: the worker's status at the end.
        settings: the settings in effect.
        seconds: from the first event published to the last one processed.
    """
    scorer = status.get("scorer") or {}
    return Summary(
        tiers=(
            _scorer_tier(board, scorer),
            _job_tier("dpo", "preference pairs", board, status),
            _job_tier("sft", "eligible traces", board, status),
        ),
        parameters_configured=expected_parameters(settings.scorer.rank),
        parameters_effective=scorer.get("parameters"),
        accuracy={
            "first_tenth": asdict(board.accuracy(0.0, 0.1)),
            "last_tenth": asdict(board.accuracy(0.9, 1.0)),
        },
        funnel=status.get("pair_funnel") or {},
        data_dir=settings.data_dir,
        seconds=round(seconds, 1),
    )


def show(summary: Summary, console: Console) -> None:
    """Print the tiers and where the data is; the audit has the pair funnel."""
    tiers = Table("tier", "state", "figures", title="What happened", title_justify="left")
    for tier in summary.tiers:
        tiers.add_row(tier.name, tier.state, "\n".join(tier.figures))
    console.print(tiers)
    effective = summary.parameters_effective
    told = "unknown" if effective is None else f"{effective:,}"
    console.print(f"scorer parameters: {summary.parameters_configured:,} configured, {told} in effect")
    console.print(f"processed in {summary.seconds:.1f} s; data, jobs and logs: {summary.data_dir}", soft_wrap=True)


def _scorer_tier(board: Board, scorer: Mapping[str, Any]) -> Tier:
    left = len(board.unscored) + len(board.unlearned)
    figures = (
        f"{scorer.get('step', 0)} steps from {scorer.get('groups_learned', 0)} feedbacks learned, "
        f"{len(board.held_out)} held out",
        f"widget pairs ranked right before learning: first tenth {board.accuracy(0.0, 0.1)}, "
        f"last tenth {board.accuracy(0.9, 1.0)}",
    )
    if left:
        return Tier("1 scorer", "FAILED", (f"{left} events without a score update", *figures))
    return Tier("1 scorer", "COMPLETED", figures)


def _job_tier(tier: JobTier, examples: str, board: Board, status: Mapping[str, Any]) -> Tier:
    name = f"{'2' if tier == 'dpo' else '3'} {TIER_NAMES[tier]}"
    counts = status.get(tier) or {"distinct": 0, "waiting": 0, "threshold": 0}
    so_far = f"{counts['distinct']} {examples}, {counts['waiting']} of {counts['threshold']} towards the next job"
    states = board.jobs_of(tier)
    if not states:
        return Tier(name, "SKIPPED", (f"{counts['threshold'] - counts['waiting']} more needed", so_far))
    bad = [update for update in states if update is None or update.state not in ("validated", "finished")]
    if bad:
        reasons = [(update.error or update.state) if update else "not heard of" for update in bad]
        return Tier(name, "FAILED", (f"{len(bad)} of {len(states)} jobs: {reasons[0]}", so_far))
    return Tier(name, "COMPLETED", (so_far, *(line for job in states if job for line in _trained(job))))


def _trained(job: JobUpdate) -> list[str]:
    """Say what a job trained, and how the gate judged it."""
    figures = job.metrics
    if "version" not in figures:
        return [f"{job.job_id} {job.state}"]

    def number(name: str) -> str:
        value = figures.get(name)
        return f"{value:.3f}" if isinstance(value, (int, float)) else "-"

    judged = "promoted" if figures["promoted"] else "rejected"
    return [
        f"{figures['version']} {judged}: {figures.get('reason')}",
        f"{figures.get('steps')} steps on {figures.get('trained_on')} examples, loss {number('loss_first')} at first, "
        f"{_mean_of_rest(figures.get('losses'))} on average afterwards, {number('seconds_per_step')} s a step",
        "held out: "
        + ", ".join(
            f"{figures[name]} {words}" if isinstance(figures[name], int) else f"{words} {number(name)}"
            for name, words in GATE_FIGURES.items()
            if figures.get(name) is not None
        ),
    ]


def _mean_of_rest(losses: object) -> str:
    """Return the mean loss after the first step; each step has a few other examples, so one alone says little."""
    rest = losses[1:] if isinstance(losses, list) else []
    return f"{fmean(rest):.3f}" if rest else "-"
