"""Figures of the audit from what was collected: rewards, pairs, traces, jobs, versions. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from itertools import islice
from typing import Any

from schemas.events import JobTier, PairKind
from schemas.records import Answer
from schemas.settings import UnpairedSettings
from streams.audit.collect import Arrival, Collected, FromBroker
from streams.audit.findings import judge as judge_findings
from streams.audit.report import Forecast, Looser, Report, Tier, TierName, TraceLine, instant
from streams.audit.tiers import job_tier, scorer_tier
from streams.kafka.lag import trainer_group
from streams.topics import ROLES, group
from trainers.pairs.cost import cost_of_rules, judge, looser, pairs_under
from trainers.pairs.funnel import KINDS, merge
from trainers.pairs.matcher import PairMatcher
from trainers.pairs.rules import confidence_of, side_of
from trainers.pairs.unpaired import jobs_of
from trainers.traces.suitability import assess, is_eligible

MAX_TRIED = 20_000
"""Looser thresholds are tried on at most so many of the newest answers."""
NEWEST_TRACES = 8
WEEK_SECONDS = 7 * 86_400
DAY_SECONDS = 86_400
_PROMPT_CHARACTERS = 120


def make_report(found: Collected) -> Report:
    """Return the audit of what was collected, findings included."""
    broker = found.broker or FromBroker()
    jobs = list_jobs(found)
    latest = _latest(broker.answers)
    judged = [one for answer in latest if (one := judge(answer, found.settings.pairs)) is not None]
    tried, tried_on = _try_looser(found, broker)
    tiers: dict[TierName, Tier] = {"scorer": scorer_tier(found)}
    tiers |= {tier: job_tier(found, tier, jobs) for tier in _shown(found, jobs)}
    traces, newest = _traces(found, broker)
    funnel = _funnel(found, broker)
    report = Report(
        generated_at=instant(found.at),
        deployment=_deployment(found),
        tiers=tiers,
        rewards={kind: _rewards(kind, latest, found) for kind in KINDS},
        funnel=funnel,
        unused=_unused(funnel, found.settings.unpaired),
        costs={kind: cost_of_rules(kind, judged, found.settings.pairs) for kind in KINDS},
        looser=tried,
        looser_of=tried_on,
        forecasts=_forecasts(found, broker, {name: tier.missing for name, tier in tiers.items()}),
        traces=traces,
        newest_traces=newest,
        jobs=tuple(jobs),
        versions=_versions(found),
        outcome=broker.outcome,
        artefacts=tuple({**asdict(a), "written_at": instant(a.written_at)} for a in found.disk.artefacts),
        lag=None if found.broker is None else tuple(asdict(row) for row in broker.lag),
        dead_letters=dict(broker.dead_letters.most_common()),
    )
    return replace(report, findings=tuple(judge_findings(report, found)))


def _shown(found: Collected, jobs: Sequence[Mapping[str, Any]]) -> list[JobTier]:
    """Return the tiers that train by jobs; KTO where it is on, or was."""
    kto = found.settings.unpaired.enabled or any(job["tier"] == "kto" for job in jobs)
    return ["dpo", "kto", "sft"] if kto else ["dpo", "sft"]


def list_jobs(found: Collected) -> list[dict[str, Any]]:
    """Return every job that the broker or the disk knows, the oldest first, with its newest state."""
    broker = found.broker or FromBroker()
    requests = {name: job["request"] for name, job in found.disk.jobs.items()}
    requests |= {job["job_id"]: job for job in broker.jobs}
    jobs = []
    for name, request in requests.items():
        told = broker.job_updates.get(name) or {}
        disk = found.disk.jobs.get(name)
        # A result on disk is final; before it, the broker has the newest state.
        job = {**(disk or {}), **({} if disk and disk["seconds"] is not None else told)}
        jobs.append(
            {
                "job_id": name,
                "tier": request["tier"],
                "state": job.get("state", "queued"),
                "progress": job.get("progress", 0.0),
                "attempt": job.get("attempt", 1),
                "examples": request["example_count"],
                "requested_at": instant(datetime.fromisoformat(request["requested_at"]).timestamp()),
                "seconds": job.get("seconds"),
                "error": job.get("error"),
                "metrics": job.get("metrics") or {},
                "version": job.get("version"),
                "promoted": job.get("promoted"),
                "base_model": request["base_model"],
                "settings": request["settings"],
                "dataset": request["dataset_path"],
            }
        )
    return sorted(jobs, key=lambda job: (job["requested_at"], job["job_id"]))


def _deployment(found: Collected) -> dict[str, Any]:
    settings, broker = found.settings, found.broker
    members = {} if broker is None else broker.members
    roles = {role: members.get(group(settings, role), 0) for role in ROLES}
    return {
        "data_dir": str(found.disk.folder),
        "broker": settings.kafka.bootstrap_servers,
        "broker_error": found.broker_error,
        "group": settings.group_id,
        "trainer_group": trainer_group(settings),
        "prefix": settings.topics.prefix,
        "roles": roles,
        "workers": None if broker is None else max(roles.values()),
        "trainers": None if broker is None else broker.members.get(trainer_group(settings), 0),
        "worker_error": found.worker_error,
        "worker_ready": None if found.worker is None else found.worker.get("ready"),
        "worker_reason": None if found.worker is None else found.worker.get("reason"),
        "records": {} if broker is None else broker.records,
    }


def _latest(answers: Mapping[int, Sequence[Answer]]) -> list[Answer]:
    latest = {(a.kind, a.experience_id): a for partition in answers.values() for a in partition}
    return list(latest.values())


def _rewards(kind: PairKind, latest: Sequence[Answer], found: Collected) -> dict[str, Any]:
    rules = found.settings.pairs
    mine = [answer for answer in latest if answer.kind == kind]
    sides: dict[str, list[float]] = {"chosen": [], "rejected": [], "neutral": []}
    for answer in mine:
        if answer.reward is not None:
            sides[side_of(answer.reward, rules) or "neutral"].append(answer.reward)
    confidences = [c for a in mine if (c := a.evaluation_confidence) is not None]
    usable = [c for a in mine if (c := confidence_of(a, rules)) is not None]
    return {
        "judged": len(mine),
        **{
            name: {"count": len(rewards), "mean": round(sum(rewards) / len(rewards), 4) if rewards else None}
            for name, rewards in (
                ("positive", sides["chosen"]),
                ("negative", sides["rejected"]),
                ("neutral", sides["neutral"]),
            )
        },
        "no_reward": sum(answer.reward is None for answer in mine),
        "with_confidence": len(confidences),
        "confidence_share": len(confidences) / len(mine) if mine else 0.0,
        "high_confidence": sum(c >= rules.min_evaluation_confidence for c in confidences),
        "low_confidence": sum(c < rules.min_evaluation_confidence for c in confidences),
        "confidence_that_counts": len(usable),
        "histogram": _histogram([answer.reward for answer in mine if answer.reward is not None]),
    }


def _histogram(rewards: Sequence[float]) -> list[dict[str, float]]:
    """Return ten equal bins from -1 to 1."""
    bins = Counter(min(9, max(0, int((reward + 1) * 5))) for reward in rewards)
    return [
        {"from": round(-1 + place / 5, 1), "to": round(-0.8 + place / 5, 1), "count": bins[place]}
        for place in range(10)
    ]


def _funnel(found: Collected, broker: FromBroker) -> dict[str, Any]:
    funnels = []
    for values in broker.answers_table.partitions.values():
        matcher = PairMatcher(found.settings.pairs, found.settings.unpaired)
        for key, value in values.items():
            matcher.load(key, value)
        funnels.append(matcher.funnel(found.at))
    return {str(kind): dict(counts) for kind, counts in merge(funnels).items()}


def _unused(funnel: Mapping[str, Any], settings: UnpairedSettings) -> dict[str, Any]:
    waiting = [counts["waiting"] for kind, counts in funnel.items() if settings.kinds in ("both", kind)]
    good, bad = (sum(of[side] for of in waiting) for side in ("chosen", "rejected"))
    jobs = jobs_of(good, bad, settings.threshold)
    return {"enabled": settings.enabled, "good": good, "bad": bad, "jobs": jobs, "threshold": settings.threshold}


def _try_looser(found: Collected, broker: FromBroker) -> tuple[tuple[Looser, ...], int]:
    count = sum(map(len, broker.answers.values()))
    share = min(1.0, MAX_TRIED / count) if count else 1.0
    newest = [list(islice(a, len(a) - int(len(a) * share), None)) for a in broker.answers.values()]
    rules = found.settings.pairs
    now = pairs_under(newest, rules).total()
    tried = {change: pairs_under(newest, other).total() for change, other in looser(rules).items()}
    return tuple(Looser(change, pairs, pairs - now) for change, pairs in tried.items()), sum(map(len, newest))


def _forecasts(found: Collected, broker: FromBroker, missing: Mapping[str, int | None]) -> dict[TierName, Forecast]:
    return {
        "dpo": forecast(broker.pairs, missing["dpo"], found.at),
        **({"kto": forecast(broker.unpaired, missing["kto"], found.at)} if "kto" in missing else {}),
        "sft": forecast(broker.eligible, missing["sft"], found.at),
    }


def forecast(arrivals: Sequence[Arrival], missing: int | None, now: float) -> Forecast:
    """Return the rate of the last week, or since the first example, and when `missing` more are there at that rate."""
    if len(arrivals) < 2 or missing is None:
        return Forecast(None, None, None)
    since = max(now - WEEK_SECONDS, min(one.at for one in arrivals))
    recent = sum(one.at >= since for one in arrivals)
    per_day = recent / max(now - since, 1.0) * DAY_SECONDS
    due = instant(now + missing / per_day * DAY_SECONDS) if per_day else None
    return Forecast(round(per_day, 3), round(now - since, 1), due)


def _traces(found: Collected, broker: FromBroker) -> tuple[dict[str, Any], tuple[TraceLine, ...]]:
    settings = found.settings.traces
    assessed = [(stored, assess(stored.trace, settings)) for stored in found.disk.traces]
    seen = {one.name for one in broker.traces}
    lines = [
        TraceLine(
            trace_id=stored.trace.trace_id,
            kind=stored.trace.kind,
            prompt=" ".join(stored.trace.prompt.split())[:_PROMPT_CHARACTERS],
            thinking=bool((stored.trace.thinking or "").strip()),
            seconds=stored.trace.latency_seconds,
            input_tokens=stored.trace.input_tokens,
            output_tokens=stored.trace.output_tokens,
            grade=suitability.grade,
            reasons=suitability.reasons,
            at=instant(stored.trace.timestamp.timestamp()),
            file=stored.file,
        )
        for stored, suitability in assessed
    ]
    eligible = sum(is_eligible(suitability, settings) for _, suitability in assessed)
    figures = {
        "on_disk": len(assessed),
        "seen_by_stream": len(seen),
        "not_seen": sum(stored.trace.trace_id not in seen for stored, _ in assessed),
        "old_files": sum(stored.partition is None for stored, _ in assessed),
        "eligible_on_disk": eligible,
        "eligible": len(broker.eligible),
        "grades": dict(Counter(suitability.grade for _, suitability in assessed)),
        "reasons": dict(Counter(reason for _, suitability in assessed for reason in suitability.reasons)),
        "skipped_lines": found.disk.traces_skipped,
        "capture": (found.capture or "").lower() == "true",
        "capture_rate": settings.capture_rate,
        "capture_confidence": settings.capture_confidence,
    }
    newest = sorted(lines, key=lambda line: line.at, reverse=True)[:NEWEST_TRACES]
    return figures, tuple(newest)


def _versions(found: Collected) -> dict[str, dict[str, Any]]:
    announced = found.broker.versions if found.broker else {}
    return {
        line: {
            "in_use": found.disk.in_use.get(line),
            "announced": announced.get(line),
            "versions": [
                {
                    name: v.get(name)
                    for name in (
                        "version",
                        "tier",
                        "status",
                        "created_at",
                        "job_id",
                        "reason",
                        "metrics",
                        "path",
                        "bytes",
                    )
                }
                for v in versions
            ],
        }
        for line, versions in found.disk.versions.items()
    }
