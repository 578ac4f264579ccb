"""The audit laid out: sections of facts, tables and bars, which terminal, Markdown and HTML show each in its way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from streams.audit.blocks import Bar, Bars, Block, Note, Section, Table, text
from streams.audit.outcome import in_words, trial_in_words
from streams.audit.report import Finding, Forecast, Report, Tier, unused_in_words
from trainers.pairs.cost import KindCost, RuleCost

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Card:
    """A tier at a glance."""

    title: str
    state: str
    why: str
    headline: str
    progress: float | None
    """From 0 to 1; None where there is no threshold."""


@dataclass(frozen=True, slots=True)
class Document:
    """The whole audit, ready to be shown."""

    title: str
    subtitle: str
    cards: tuple[Card, ...]
    findings: tuple[Finding, ...]
    sections: tuple[Section, ...] = field(default=())


def lay_out(report: Report) -> Document:
    """Return the report as cards, findings and sections."""
    where = report.deployment
    alive = (
        ""
        if where["workers"] is None
        else f", {_count(where['workers'], 'worker')}, {_count(where['trainers'], 'trainer')}"
    )
    return Document(
        title="Tierstream audit",
        subtitle=(
            f"{report.generated_at}, data {where['data_dir']}, broker {where['broker']}, group {where['group']}{alive}"
        ),
        cards=tuple(_card(tier) for tier in report.tiers.values()),
        findings=report.findings,
        sections=tuple(_sections(report)),
    )


def _card(tier: Tier) -> Card:
    headline = f"{tier.have:,} {tier.unit}" if tier.need is None else f"{tier.have:,} / {tier.need:,} {tier.unit}"
    progress = None if tier.need is None else min(1.0, tier.have / tier.need)
    return Card(tier.title, tier.state, tier.why, headline, progress)


def _sections(report: Report) -> Iterator[Section]:
    yield Section("scorer", "Tier 1: online scorer", (_effects(report.tiers["scorer"]), _learning(report)))
    yield Section("rewards", "Rewards and confidence", tuple(_rewards(report)))
    yield Section("pairs", "Tier 2: preference pairs", tuple(_pairs(report)))
    yield Section("traces", "Tier 3: reasoning traces", tuple(_traces(report)))
    yield Section("jobs", "Jobs and versions", tuple(_jobs(report)))
    yield Section("outcome", "Outcome by version", tuple(_outcome(report)))
    yield Section("lag", "Lag", tuple(_lag(report)))
    yield Section("artefacts", "Artefacts", (_artefacts(report),))


def _effects(tier: Tier) -> Table:
    rows = tuple((e.name, text(e.configured), text(e.effective), e.read_from) for e in tier.effects)
    marked = frozenset(place for place, effect in enumerate(tier.effects) if effect.differs)
    return Table("Configured against effective", ("setting", "configured", "effective", "read from"), rows, marked)


_LEARNING = (
    ("step", "optimizer steps in the scorer's life"),
    ("groups_learned", "feedbacks learned"),
    ("groups_held_out", "feedbacks held out"),
    ("samples_learned", "samples learned"),
    ("samples_held_out", "samples held out"),
    ("arrived_scored", "experiences scored on arrival"),
    ("pairs_ranked", "ranking pairs"),
    ("replay_samples", "samples in the replay buffer"),
    ("validation_samples", "samples in the validation buffer"),
    ("validation_loss", "validation loss of the network part"),
    ("held_out_accuracy", "accuracy within held-out queries"),
    ("held_out_queries", "held-out queries with answers to be told apart"),
    ("learned_accuracy", "accuracy within learned queries"),
    ("linear_share", "share of the linear part in the score"),
    ("validation_accuracy", "validation accuracy of the network part, pairs of one intent"),
    ("progressive_accuracy", "progressive accuracy, newest 500 samples, queries seen included"),
    ("learning_rate", "learning rate now"),
    ("decays", "decays in effect"),
    ("decays_at_floor", "decays at the floor, without effect"),
    ("records_waiting", "records of its log that wait"),
)


def _learning(report: Report) -> Table:
    figures = report.tiers["scorer"].figures
    rows = [(label, text(figures.get(name))) for name, label in _LEARNING]
    process = figures.get("process")
    rows.insert(1, ("optimizer steps of the running process", text(process and process["steps"])))
    return Table(f"Learning, read from {figures['read_from']}", ("figure", "value"), tuple(rows))


def _rewards(report: Report) -> Iterator[Block]:
    columns = ("kind", "judged", "positive", "negative", "neutral", "no reward", "with confidence", "high", "low")
    rows = tuple(
        (
            kind,
            text(r["judged"]),
            *(_side(r[name]) for name in ("positive", "negative", "neutral")),
            text(r["no_reward"]),
            f"{r['with_confidence']:,} ({r['confidence_share']:.0%})",
            text(r["high_confidence"]),
            text(r["low_confidence"]),
        )
        for kind, r in report.rewards.items()
    )
    yield Table("The latest judgement of every answer", columns, rows)
    for kind, r in report.rewards.items():
        most = max((one["count"] for one in r["histogram"]), default=0) or 1
        bars = (
            Bar(f"{one['from']:+.1f} to {one['to']:+.1f}", one["count"] / most, f"{one['count']:,}", kept=True)
            for one in r["histogram"]
        )
        yield Bars(f"Rewards of {kind} answers", tuple(bars))


def _side(of: dict[str, Any]) -> str:
    return f"{of['count']:,}" if of["mean"] is None else f"{of['count']:,} (mean {of['mean']:.3f})"


def _pairs(report: Report) -> Iterator[Block]:
    tier, due = report.tiers["dpo"], report.forecasts["dpo"]
    made = ", ".join(f"{counts['pairs']} {kind}" for kind, counts in report.funnel.items())
    yield Note(f"{tier.have}/{tier.need} pairs ({made} in all), {tier.missing} more needed. {pace(due)}")
    yield Note(f"{unused_in_words(report.unused)}.")
    if kto := report.tiers.get("kto"):
        yield Note(f"{kto.title}: {kto.why}. {pace(report.forecasts['kto'])}")
        yield _effects(kto)
    for kind, cost in report.costs.items():
        yield _cost_bars(kind, cost, report.funnel[kind]["pairs"])
    yield Table(
        f"One threshold a step looser, tried on {report.looser_of:,} judgements",
        ("change", "pairs", "more"),
        tuple((tried.change, text(tried.pairs), f"{tried.more:+,}") for tried in report.looser),
    )
    yield _funnel(report)
    yield _effects(tier)


def _cost_bars(kind: str, cost: KindCost, pairs: int) -> Bars:
    def lost(rule: RuleCost) -> Bar:
        alone = "" if rule.alone is None else f", {rule.alone:,} by it alone"
        return Bar(rule.rule, rule.share, f"{rule.rejected:,} ({rule.share:.2%}){alone}")

    possible = cost.candidate_pairs
    share = possible / cost.comparisons if cost.comparisons else 0.0
    used = max(0, cost.comparable - pairs)
    return Bars(
        f"What each rule costs: {kind}",
        (
            Bar(f"{cost.positive:,} good x {cost.negative:,} bad", 1.0, f"{cost.comparisons:,} comparisons", kept=True),
            *(lost(rule) for rule in cost.answer_rules),
            Bar(
                f"{cost.chosen:,} chosen x {cost.rejected:,} rejected",
                share,
                f"{possible:,} candidate pairs at most; shares below are of these",
                kept=True,
            ),
            *(lost(rule) for rule in cost.pair_rules),
            Bar("one answer, one pair", used / possible if possible else 0.0, f"{used:,} more would share an answer"),
            Bar("pairs", pairs / possible if possible else 0.0, f"{pairs:,} ({_percent(pairs, possible)})", kept=True),
        ),
    )


def _funnel(report: Report) -> Table:
    """Return where the answers are, with a row for every place that has any."""
    counts = report.funnel.values()
    reasons = next(iter(counts))["dropped"] if counts else ()
    rows = {
        "answers judged": [of["answers"] for of in counts],
        **{f"dropped: {reason.replace('_', ' ')}": [of["dropped"][reason] for of in counts] for reason in reasons},
        **{f"waiting: {side}": [of["waiting"][side] for of in counts] for side in ("chosen", "rejected")},
        "waiting for the same query, of these": [of["waiting_for_same_query"] for of in counts],
        "paired": [of["paired"] for of in counts],
        "pairs made": [of["pairs"] for of in counts],
        "training by themselves": [of["unpaired"] for of in counts],
        "judged otherwise after pairing": [of["reward_changed_after_pairing"] for of in counts],
    }
    shown = tuple((name, *map(text, numbers)) for name, numbers in rows.items() if any(numbers))
    return Table("Where every answer is", ("", *report.funnel), shown)


def _traces(report: Report) -> Iterator[Block]:
    traces, tier, due = report.traces, report.tiers["sft"], report.forecasts["sft"]
    yield Note(f"{tier.have}/{tier.need} eligible traces, {tier.missing} more needed. {pace(due)}")
    yield Table(
        "Found against used",
        ("figure", "value"),
        (
            ("traces on disk", text(traces["on_disk"])),
            ("seen by the stream", text(traces["seen_by_stream"])),
            ("on disk and not seen", text(traces["not_seen"])),
            ("eligible", text(traces["eligible"])),
            ("grades", _counts(traces["grades"])),
            ("what is wrong with the others", _counts(traces["reasons"])),
            ("capture here", "on" if traces["capture"] else "off: ENABLE_TIER3_CAPTURE is not true"),
            (
                "capture policy",
                f"confidence from {traces['capture_confidence']:g} on, and {traces['capture_rate']:.0%} of the rest",
            ),
        ),
    )
    rows = tuple(
        (
            line.prompt,
            line.kind,
            "yes" if line.thinking else "no",
            "-" if line.seconds is None else f"{line.seconds:g}",
            f"{text(line.input_tokens)} / {text(line.output_tokens)}",
            line.grade + (f" ({', '.join(line.reasons)})" if line.reasons else ""),
            line.file,
        )
        for line in report.newest_traces
    )
    yield Table(
        "Newest traces", ("prompt", "kind", "thinking", "seconds", "tokens in / out", "suitability", "file"), rows
    )
    yield _effects(tier)


def became_of(metrics: Mapping[str, Any]) -> str:
    """Say what became of a job's examples: trained on, held out, or dropped with the reasons."""
    trained = metrics.get("trained_on", metrics.get("to_train_on"))
    if trained is None or "dropped" not in metrics:
        return "-"
    dropped = ", ".join(f"{count} {reason}" for reason, count in metrics["dropped"].items())
    cut = f" ({metrics['cut']} shortened)" if metrics.get("cut") else ""
    return f"{trained} trained on{cut}, {metrics['held_out_of_job']} held out" + (
        f", dropped: {dropped}" if dropped else ""
    )


def _jobs(report: Report) -> Iterator[Block]:
    rows = tuple(
        (
            job["job_id"],
            job["tier"],
            job["state"],
            f"{job['progress']:.0%}",
            text(job["examples"]),
            became_of(job["metrics"]),
            job["requested_at"],
            text(job["seconds"]),
            job["version"] or job["error"] or "-",
        )
        for job in report.jobs
    )
    if not rows:
        yield Note("No job was started yet.")
    failed = frozenset(place for place, job in enumerate(report.jobs) if job["state"] == "failed")
    columns = (
        *("job", "tier", "state", "progress", "examples", "of these", "requested", "seconds"),
        "version or error",
    )
    yield Table("Jobs", columns, rows, failed)
    yield Table(
        "Versions",
        ("tier", "version", "status", "in use", "bytes", "path", "reason"),
        tuple(
            (
                text(version["tier"]),
                text(version["version"]),
                text(version["status"]),
                "yes" if (of["in_use"] or {}).get("version") == version["version"] else "no",
                text(version["bytes"]),
                text(version["path"]),
                text(version["reason"]),
            )
            for of in report.versions.values()
            for version in of["versions"]
        ),
    )


def _outcome(report: Report) -> Iterator[Block]:
    versions = report.outcome["versions"]
    told = ", ".join(f"{version['version']}: {in_words(version)}" for version in versions)
    yield Note(f"{told}." if told else "No judged answer names its version (`model_version`).")
    yield from (Note(f"{trial_in_words(line)}.") for line in report.outcome["lines"] if line["candidate"])
    rows = tuple(
        (
            version["version"],
            "yes" if version["in_use"] else "no",
            "yes" if version["known"] else "no",
            source,
            in_words(rewards),
        )
        for version in versions
        for source, rewards in {"all, blended": version, **version["sources"]}.items()
    )
    yield Table("Rewards", ("version", "in use", "in the registry", "judged by", "reward, with its interval"), rows)


def _lag(report: Report) -> Iterator[Block]:
    if report.lag is None:
        yield Note("Not known: no broker could be asked.")
        return
    behind = [row for row in report.lag if row["lag"]]
    total = sum(row["lag"] for row in behind)
    oldest = max((row["lag_seconds"] for row in behind), default=0.0)
    yield Note(f"{total:,} records wait, the oldest for {oldest:,.1f} s." if total else "Nothing waits.")
    rows = tuple(
        (row["group"], f"{row['topic']}[{row['partition']}]", text(row["lag"]), f"{row['lag_seconds']:,.1f}")
        for row in behind
    )
    yield Table("Where records wait", ("group", "topic and partition", "records", "seconds"), rows)
    yield Table(
        "Dead letters", ("reason", "records"), tuple((reason, text(n)) for reason, n in report.dead_letters.items())
    )


def _artefacts(report: Report) -> Table:
    rows = tuple((one["path"], text(one["size_bytes"]), one["written_at"]) for one in report.artefacts)
    return Table(f"In {report.deployment['data_dir']}", ("path", "bytes", "written"), rows)


def pace(forecast: Forecast) -> str:
    """Return how fast examples come and when the next job is due, in a sentence."""
    per_day, seconds, due = forecast.per_day, forecast.seconds, forecast.due
    if per_day is None or seconds is None or due is None:
        return "There are too few to tell a rate."
    when = due[:16].replace("T", " at ")
    rate = f"{per_day:,.1f} a day" if seconds >= DAY_SECONDS else f"{per_day * seconds / DAY_SECONDS:,.0f}"
    over = f"{seconds / DAY_SECONDS:,.0f} days" if seconds >= 2 * DAY_SECONDS else f"{seconds / 60:,.0f} minutes"
    return f"{rate} over the last {over}; at that rate the next job is due on {when} UTC."


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "0%"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "-"


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"
