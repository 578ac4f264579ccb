"""The audit's content, ready for JSON: what every form of it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from trainers.pairs.cost import KindCost

TierName = Literal["scorer", "dpo", "kto", "sft"]
TierState = Literal["COMPLETED", "SKIPPED", "RUNNING"]
Severity = Literal["critical", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")


@dataclass(frozen=True, slots=True)
class Effect:
    """A setting as it is configured and as it is in effect."""

    name: str
    configured: Any
    effective: Any
    """None where nothing is in effect yet."""
    read_from: str
    """Where the effective value was read."""

    @property
    def differs(self) -> bool:
        """Whether something else is in effect than what is configured."""
        return self.effective is not None and self.effective != self.configured


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier."""

    name: TierName
    title: str
    state: TierState
    why: str
    have: int
    """Examples towards the next job; for the scorer, samples learned."""
    need: int | None
    """Examples that start a job."""
    missing: int | None
    unit: str
    effects: tuple[Effect, ...]
    figures: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Forecast:
    """How fast examples come, and when the next job is due at that rate."""

    per_day: float | None
    """Over `seconds`; None below two examples."""
    seconds: float | None
    """What the rate was taken over: the last week, or the time since the first example where that is shorter."""
    due: str | None
    """RFC 3339."""


@dataclass(frozen=True, slots=True)
class Looser:
    """What one threshold a step looser would give."""

    change: str
    pairs: int
    more: int
    """Than the rules in effect give on the same answers."""


@dataclass(frozen=True, slots=True)
class TraceLine:
    """A trace in short."""

    trace_id: str
    kind: str
    prompt: str
    """Its first 120 characters."""
    thinking: bool
    seconds: float | None
    input_tokens: int | None
    output_tokens: int | None
    grade: str
    reasons: tuple[str, ...]
    at: str
    file: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was found, and what to do about it."""

    severity: Severity
    code: str
    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Report:
    """The whole audit."""

    generated_at: str
    deployment: Mapping[str, Any]
    tiers: Mapping[TierName, Tier]
    rewards: Mapping[str, Mapping[str, Any]]
    """By kind: how the latest rewards are spread, and how many have a confidence."""
    funnel: Mapping[str, Any]
    """By kind: where every answer is, as the worker counts it."""
    unused: Mapping[str, Any]
    """Labelled answers that wait for a partner, of the kinds that `[unpaired]` names, and the KTO jobs of them."""
    costs: Mapping[str, KindCost]
    """By kind: what each rule costs."""
    looser: tuple[Looser, ...]
    looser_of: int
    """Answers that the looser thresholds were tried on: the newest."""
    forecasts: Mapping[TierName, Forecast]
    traces: Mapping[str, Any]
    newest_traces: tuple[TraceLine, ...]
    jobs: tuple[Mapping[str, Any], ...]
    versions: Mapping[str, Mapping[str, Any]]
    outcome: Mapping[str, Any]
    """Rewards by version, as `outcome_of` returns them."""
    artefacts: tuple[Mapping[str, Any], ...]
    lag: tuple[Mapping[str, Any], ...] | None
    """None where no broker could be asked."""
    dead_letters: Mapping[str, int]
    findings: tuple[Finding, ...] = ()

    @property
    def critical(self) -> bool:
        """Whether there is a critical finding."""
        return any(finding.severity == "critical" for finding in self.findings)


def unused_in_words(unused: Mapping[str, Any]) -> str:
    """Say how many labelled answers wait, and how many jobs they are enough for."""
    jobs = f"{unused['jobs']} job{'' if unused['jobs'] == 1 else 's'} of {unused['threshold']}"
    count = unused["good"] + unused["bad"]
    return f"{count:,} labelled answers wait unused: {jobs}" + ("" if unused["enabled"] else ", with unpaired.enabled")


def instant(seconds: float) -> str:
    """Return epoch seconds as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
