"""What the figures mean: findings with severity and remedy. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from schemas.events import JobTier
from streams.audit.collect import Collected
from streams.audit.findings_of_learning import LEARNING, Look
from streams.audit.report import SEVERITIES, Effect, Finding, Report, Severity
from streams.audit.tiers import IN_EFFECT
from streams.kafka.admin import REMEDIES

LATE_SECONDS = 300.0
"""A record that has waited longer is late."""


def judge(report: Report, found: Collected) -> list[Finding]:
    """Return everything that was found, the gravest first."""
    findings = [finding for look in _LOOKS for finding in look(report, found)]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def _broker(report: Report, found: Collected) -> Iterator[Finding]:
    if found.broker_error:
        yield Finding("critical", "broker_unreachable", found.broker_error, "then run the audit again: it lacks topics")
    elif not report.lag:
        yield Finding(
            "critical",
            "no_topics",
            f"no topic of this deployment (prefix {found.settings.topics.prefix!r}) is on the broker",
            "tierstream topics --create, or name the prefix and broker that are meant",
        )


def _topics(report: Report, found: Collected) -> Iterator[Finding]:
    unfit = found.broker.topics_unfit if found.broker else []
    for state in unfit:
        yield Finding("critical", "topic_unfit", str(state.fault), REMEDIES[state.condition])


def _deleted(report: Report, found: Collected) -> Iterator[Finding]:
    for row in report.lag or ():
        if row["deleted"]:
            yield Finding(
                "critical",
                "deleted_unread",
                f"{row['topic']}[{row['partition']}]: retention deleted {row['deleted']:,} records before "
                f"group {row['group']} had read them",
                "keep topics.retention longer than a worker may be away; the records are lost to this deployment",
            )


def _scorer_effects(report: Report, found: Collected) -> Iterator[Finding]:
    differing = {effect.name: effect for effect in report.tiers["scorer"].effects if effect.differs}
    rank, parameters = differing.pop("rank", None), differing.pop("parameters", None)
    if rank or parameters:
        yield Finding("critical", "architecture_mismatch", _mismatch(report), _remedy_of(found))
    for effect in differing.values():
        yield _differs("critical", "scorer", effect)


def _mismatch(report: Report) -> str:
    by_name = {effect.name: effect for effect in report.tiers["scorer"].effects}
    rank, parameters = by_name["rank"], by_name["parameters"]
    return (
        f"the scorer has rank {rank.effective} ({parameters.effective:,} parameters), read from {rank.read_from}, but "
        f"rank {rank.configured} ({parameters.configured:,} parameters) is configured"
    )


def _remedy_of(found: Collected) -> str:
    source = found.sources.get("scorer.rank", "default")
    return (
        f"set scorer.rank back ({source}), or run `tierstream retrain`, which relearns the configured one from the "
        "retained stream"
    )


def _differs(severity: Severity, tier: str, effect: Effect) -> Finding:
    return Finding(
        severity,
        "setting_not_in_effect",
        f"{tier}: {effect.name} is configured as {effect.configured}, but {effect.effective} is in effect "
        f"({effect.read_from})",
        "restart the worker with this configuration, or look at the worker's with `tierstream doctor` there",
    )


def _version_refused(report: Report, found: Collected) -> Iterator[Finding]:
    """Whoever runs says it; without a worker the newest checkpoint does."""
    scorer = (found.worker or {}).get("scorer")
    written = found.disk.checkpoint.meta.get("refused") if found.disk.checkpoint else None
    refused = scorer.get("version_refused") if scorer else dict([written]) if written else None
    for version, why in (refused or {}).items():
        yield Finding(
            "critical",
            "version_refused",
            f"scorer: {version} was put into use and is refused, the one before serves: {why}",
            "start the workers again with the settings that it needs, or tierstream models rollback scorer",
        )


def _not_served(report: Report, found: Collected) -> Iterator[Finding]:
    for line, note in found.disk.not_served.items():
        used = (found.disk.in_use.get(line) or {}).get("version")
        where = "is in use and not served" if note.version == used else "is not put into use"
        remedy = f"see that it runs and loads adapters, then tierstream models promote {note.version}"
        yield Finding("critical", "not_served", f"{line}: {note.version} {where}: {note.reason}", remedy)


def _worker_settings(report: Report, found: Collected) -> Iterator[Finding]:
    live = (found.worker or {}).get("settings", {})
    own = ("web.", "broker.", "state_dir", "cache_dir", "data_dir", "stream.", "kafka.", "scorer.")
    keys = [
        key for key, value in found.configured.items() if key in live and live[key] != value and not key.startswith(own)
    ]
    if keys:
        told = ", ".join(f"{key} {live[key]} (configured {found.configured[key]})" for key in keys[:5])
        yield Finding(
            "critical",
            "worker_runs_with_other_settings",
            f"the running worker has {len(keys)} other settings than this configuration: {told}",
            "restart the worker with this configuration, or give the audit the worker's with --config",
        )


def _job_effects(report: Report, found: Collected) -> Iterator[Finding]:
    for tier in (tier for name, tier in report.tiers.items() if name != "scorer"):
        for effect in tier.effects:
            if effect.differs and (effect.name == "adapter rank" or effect.name.startswith(IN_EFFECT)):
                yield _differs("critical", tier.title, effect)
            elif effect.differs:
                yield Finding(
                    "info",
                    "changed_since_last_job",
                    f"{tier.title}: {effect.name} was {effect.effective} in {effect.read_from}, and is "
                    f"{effect.configured} from the next job on",
                    "nothing, where that is meant",
                )


def _workers(report: Report, found: Collected) -> Iterator[Finding]:
    deployment = report.deployment
    if found.broker is None or not report.lag:
        return
    mine = [row for row in report.lag if row["group"] != deployment["trainer_group"]]
    waiting, oldest = sum(row["lag"] for row in mine), max((row["lag_seconds"] for row in mine), default=0.0)
    if not deployment["workers"]:
        severity: Severity = "critical" if waiting else "warning"
        backlog = f"{waiting:,} records wait, the oldest for {oldest:,.0f} s" if waiting else "nothing waits"
        text = f"no worker is running, and {backlog}"
        yield Finding(severity, "no_worker", text, "tierstream up, or tierstream worker")
    elif idle := [role for role, members in deployment["roles"].items() if not members]:
        text = f"no process of role {', '.join(idle)} is running"
        yield Finding("critical", "no_role", text, f"tierstream worker --roles {','.join(idle)}")
    elif deployment["worker_ready"] is False:
        reason = deployment["worker_reason"]
        yield Finding("critical", "worker_not_ready", f"the worker is not ready: {reason}", "look at its log")
    elif oldest > LATE_SECONDS:
        text = f"the worker is behind: {waiting:,} records wait, the oldest for {oldest:,.0f} s"
        yield Finding("warning", "behind", text, "tierstream lag --watch shows where; add a worker")
    theirs = sum(row["lag"] for row in report.lag if row["group"] == deployment["trainer_group"])
    if not deployment["trainers"] and theirs:
        text = f"no trainer is running, and {theirs} jobs wait"
        yield Finding("critical", "no_trainer", text, "tierstream trainer")


def _jobs(report: Report, found: Collected) -> Iterator[Finding]:
    for tier in get_args(JobTier):
        jobs = [job for job in report.jobs if job["tier"] == tier]
        if jobs and jobs[-1]["state"] == "failed":
            text = f"job {jobs[-1]['job_id']} failed: {jobs[-1]['error']}"
            yield Finding("critical", "job_failed", text, "fix the cause, then run it again: its data is kept")
    if (undecided := found.disk.missing_start) is not None:
        yield Finding("critical", "line_without_start", f"no job can run: {undecided.message}", undecided.remedy or "")
    for line, versions in report.versions.items():
        used, announced = versions["in_use"], versions["announced"]
        if used and announced and used.get("version") not in (None, announced.get("version")):
            text = f"{line}: version {used['version']} is in use on disk, but {announced['version']} was announced last"
            yield Finding("critical", "version_not_announced", text, "promote the one that is meant once more")


def _dead_letters(report: Report, found: Collected) -> Iterator[Finding]:
    if report.dead_letters:
        told = ", ".join(f"{reason} {count}" for reason, count in report.dead_letters.items())
        text = f"{sum(report.dead_letters.values()):,} records were dead-lettered: {told}"
        yield Finding("warning", "dead_letters", text, "read the topic dead-letters: each names its origin and reason")


_LOOKS: tuple[Look, ...] = (
    _broker,
    _topics,
    _deleted,
    _scorer_effects,
    _version_refused,
    _not_served,
    _worker_settings,
    _job_effects,
    _workers,
    *LEARNING,
    _jobs,
    _dead_letters,
)
