"""Findings about what is learned: the scorer, its drift, the outcome of versions, pairs and traces. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from streams.audit.collect import Collected
from streams.audit.outcome import in_words, verdict
from streams.audit.report import Finding, Report, Severity, unused_in_words

Look = Callable[[Report, Collected], Iterator[Finding]]

WORSE = 1.2
"""Times the best validation loss from which on validation counts as worse."""
OLD_CHECKPOINT_SECONDS = 600.0
LOW_COVERAGE = 0.5
DRIFT_SECONDS = 86_400.0
"""An alarm on drift is told for so long."""
OLD_JUDGEMENT_SECONDS = 86_400.0
MEMORISED = 0.05
"""Accuracy within learned queries above that within held-out ones, from which on it is told."""
ENOUGH_QUERIES = 20
"""With fewer held-out queries a difference tells little."""


def _memorising(figures: Mapping[str, Any]) -> Iterator[Finding]:
    learned, new, queries = (figures.get(n) for n in ("learned_accuracy", "held_out_accuracy", "held_out_queries"))
    if learned is None or new is None or queries is None or queries < ENOUGH_QUERIES or learned - new < MEMORISED:
        return
    text = (
        f"the scorer memorises: it is right on {learned:.2f} of the comparisons within queries that it learned, and "
        f"on {new:.2f} within the {queries} held-out ones; the linear part, which cannot, has "
        f"{figures['linear_share']:.0%} of the score, by how well it ranks held-out queries"
    )
    yield Finding("info", "memorises", text, "nothing: the share follows; more feedback on other queries narrows it")


def _learning(report: Report, found: Collected) -> Iterator[Finding]:
    figures = report.tiers["scorer"].figures
    loss, best = figures.get("validation_loss"), _best_loss(found)
    every = found.settings.scorer.validate_every_steps
    if figures.get("steps") and loss is None:
        text = f"there was no validation round yet: one comes every {every} steps, {figures['steps']:,} are done"
        yield Finding("info", "not_validated_yet", text, "wait for more feedback")
    if loss is not None and best and loss > WORSE * best:
        text = f"validation loss is {loss:.4f}, its best was {best:.4f}"
        yield Finding("warning", "validation_worse", text, "look at the newest feedback: did its meaning change?")
    yield from _memorising(figures)
    if figures.get("decays_at_floor"):
        text = (
            f"validation stopped to improve {figures['decays_at_floor']} times after the learning rate had reached "
            f"{figures['learning_rate']:g}, the floor; {figures['decays']} decays took effect before"
        )
        yield Finding("info", "learning_rate_at_floor", text, "nothing, unless validation is not good enough")
    for name in ("skipped_not_finite", "skipped_updates"):
        if figures.get(name):
            text = f"{name}: {figures[name]} (values that are not finite)"
            yield Finding("warning", name, text, "find who sends such embeddings or rewards")
    for name in found.disk.checkpoints_refused:
        yield Finding("warning", "checkpoint_unreadable", f"checkpoint {name} cannot be read", "look at the disk")


def _drift(report: Report, found: Collected) -> Iterator[Finding]:
    drift = found.broker.drift if found.broker else {}
    for alarm in drift.get("alarms", ()):
        age = found.at - alarm["at"]
        if age < DRIFT_SECONDS:
            of, remedy = f" of {alarm['of']}" if alarm["of"] else "", _remedy_of_drift(alarm)
            text = f"{alarm['series']}{of} has left its mean of {alarm['before']:.2f}, {age / 3600:,.1f} hours ago"
            yield Finding("warning", "drift", text, remedy)
    newest, unjudged = drift.get("newest_judgement"), drift.get("unjudged")
    if newest is not None and unjudged and found.at - newest > OLD_JUDGEMENT_SECONDS:
        text = (
            f"the newest judgement is {(found.at - newest) / 3600:,.0f} hours old, and {unjudged:,} answers came since"
        )
        yield Finding(
            "warning", "judgements_old", text, "look at who sends feedback, and at `tierstream dead-letters list`"
        )


def _remedy_of_drift(alarm: Mapping[str, Any]) -> str:
    look = f"look at an experience of it, `tierstream audit --explain {alarm['experience_id']}`"
    if alarm["series"] == "progressive_loss":
        return f"{look}; if the judges mean it, `tierstream retrain`, else `tierstream models rollback scorer`"
    if alarm["of"].startswith("source="):
        return f"{look}; if this source is broken, `tierstream train --pause` until it is mended"
    return look


def _outcome(report: Report, found: Collected) -> Iterator[Finding]:
    for line in report.outcome["lines"]:
        if line["worse"]:
            back = f"tierstream models rollback {line['line']}"
            by_itself = found.settings.serving.rollback_when_worse and not line["returned"]
            remedy = f"a running worker goes back by itself; else {back}" if by_itself else back
            yield Finding("critical", "version_worse", verdict(line), remedy)
    for version in report.outcome["versions"]:
        if not version["known"]:
            text = f"the registry does not know {version['version']}, which answers name as theirs: {in_words(version)}"
            remedy = "see that who publishes experiences names versions as model-versions does"
            yield Finding("info", "version_unknown", text, remedy)


def _best_loss(found: Collected) -> float | None:
    file = found.disk.checkpoint
    return None if file is None else file.meta["decay"]["best"]


def _checkpoint(report: Report, found: Collected) -> Iterator[Finding]:
    file = found.disk.checkpoint
    waiting = report.tiers["scorer"].figures["records_waiting"]
    if file is not None and waiting and found.at - file.written_at > OLD_CHECKPOINT_SECONDS:
        age = found.at - file.written_at
        text = f"the newest checkpoint is {age / 60:,.0f} minutes old, and {waiting:,} entries came since"
        yield Finding("warning", "checkpoint_old", text, "see that a worker runs and can write to the data directory")


def _pairs(report: Report, found: Collected) -> Iterator[Finding]:
    tier = report.tiers["dpo"]
    if tier.missing:
        text = f"{tier.have} of {tier.need} pairs are there, {tier.missing} more are needed"
        yield Finding("info", "more_pairs_needed", text, _best_looser(report))
    for kind, cost in report.costs.items():
        costly = max(cost.pair_rules, key=lambda rule: rule.rejected)
        if costly.rejected:
            text = (
                f"{kind}: {cost.chosen:,} chosen and {cost.rejected:,} rejected answers are {cost.candidate_pairs:,} "
                f"candidate pairs at most; {costly.rule} rules out {costly.share:.1%} of them, the most of all rules, "
                f"and {cost.comparable:,} pass all"
            )
            yield Finding("info", "costliest_rule", text, "more answers of the same intent and domain make more pairs")
    for kind, rewards in report.rewards.items():
        if rewards["judged"] and rewards["confidence_share"] < LOW_COVERAGE:
            lost = report.costs[kind].positive - report.costs[kind].chosen
            text = (
                f"{kind}: only {rewards['with_confidence']:,} of {rewards['judged']:,} judged answers "
                f"({rewards['confidence_share']:.0%}) have an evaluation confidence; {lost:,} good answers "
                "are not chosen"
            )
            yield Finding(
                "warning", "low_confidence_coverage", text, "send evaluation_confidence, or set pairs.user_confidence"
            )
    yield from _unpaired(report, found)
    evicted = sum(counts["dropped"].get("evicted", 0) for counts in report.funnel.values())
    if evicted:
        text = f"{evicted:,} answers had to leave a full side before they were paired"
        yield Finding("info", "answers_evicted", text, "raise pairs.bucket_size")


def _unpaired(report: Report, found: Collected) -> Iterator[Finding]:
    if report.unused["jobs"] and not report.unused["enabled"]:
        remedy = "docs/training.md has what KTO gave where it was measured; unpaired.enabled = true trains on them"
        yield Finding("info", "labelled_answers_unused", unused_in_words(report.unused), remedy)


def _best_looser(report: Report) -> str:
    best = max(report.looser, key=lambda tried: tried.more, default=None)
    if best is None or best.more <= 0:
        return "go on collecting judgements: no threshold one step looser would give more"
    return f"go on collecting judgements, or loosen {best.change}: {best.more} more pairs"


def _traces(report: Report, found: Collected) -> Iterator[Finding]:
    traces, tier = report.traces, report.tiers["sft"]
    if found.broker is not None and traces["not_seen"]:
        severity: Severity = "critical" if report.deployment["workers"] else "warning"
        text = f"{traces['not_seen']} of {traces['on_disk']} traces on disk are not in the stream"
        yield Finding(severity, "traces_unseen", text, f"tierstream import tierstream {found.disk.folder / 'traces'}")
    if traces["skipped_lines"]:
        told = ", ".join(f"{count} in {name}" for name, count in traces["skipped_lines"].items())
        yield Finding("warning", "trace_lines_unreadable", f"lines that are no trace: {told}", "look at these files")
    if traces["reasons"]:
        told = ", ".join(f"{reason} {count}" for reason, count in traces["reasons"].items())
        text = f"{traces['on_disk'] - traces['eligible_on_disk']} of {traces['on_disk']} traces do not count: {told}"
        yield Finding("info", "traces_not_eligible", text, "capture with thinking, within traces.max_tokens")
    if omitted := traces["reasons"].get("thinking_omitted"):
        text = f"{omitted} of {traces['on_disk']} traces had reasoning of which the API left the text out"
        yield Finding(
            "warning",
            "thinking_omitted",
            text,
            'ask for it where the assistant calls the API: thinking={"type": "adaptive", "display": "summarized"}',
        )
    if tier.missing:
        text = (
            f"{traces['on_disk']} traces are found; {tier.have} of {tier.need} eligible ones are there, "
            f"{tier.missing} more are needed"
        )
        yield Finding(
            "info", "more_traces_needed", text, "capture more: ENABLE_TIER3_CAPTURE=true where the assistant runs"
        )
    if not traces["capture"]:
        text = "trace capture is off in this environment"
        yield Finding("warning", "capture_off", text, "set ENABLE_TIER3_CAPTURE=true where the assistant runs")


LEARNING: tuple[Look, ...] = (
    _learning,
    _drift,
    _outcome,
    _checkpoint,
    _pairs,
    _traces,
)
"""What to look at, in the order in which it is told."""
