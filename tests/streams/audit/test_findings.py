"""Each finding comes where its cause is there, with its severity, and not otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import VersionError
from schemas.settings import ServingSettings
from schemas.versions import NotServed
from streams.audit.collect import Collected
from streams.audit.figures import make_report
from streams.audit.report import Finding
from streams.kafka.admin import TopicState
from streams.kafka.lag import PartitionLag
from streams.topics import TopicSpec
from tests.streams.audit.collecting import NOW, checkpoint, collected

Change = Callable[[Collected], Collected]


def broker(**changes: Any) -> Change:
    def change(found: Collected) -> Collected:
        assert found.broker is not None
        for name, value in changes.items():
            setattr(found.broker, name, value)
        return found

    return change


def disk(**changes: Any) -> Change:
    return lambda found: replace(found, disk=replace(found.disk, **changes))


def worker(**account: Any) -> Change:
    return lambda found: replace(found, worker={"ready": True, "reason": None, "scorer": None, **account})


def counted(**counts: int) -> Change:
    return lambda found: disk(checkpoint=checkpoint(found.settings, 32, **counts))(found)


def waiting(seconds: float, group: str = "tierstream-join", topic: str = "feedback") -> list[PartitionLag]:
    return [PartitionLag(group, topic, 0, 1, 8, 7, seconds)]


def old_checkpoint(found: Collected) -> Collected:
    file = replace(checkpoint(found.settings, 32), written_at=NOW - 3600)
    return broker(lag=waiting(1.0, "tierstream-scorer", "scorer-log"))(disk(checkpoint=file)(found))


def worse_validation(found: Collected) -> Collected:
    file = checkpoint(found.settings, 32)
    return disk(checkpoint=replace(file, meta={**file.meta, "validated": {"validation_loss": 0.2}}))(found)


def memorising(found: Collected) -> Collected:
    file = checkpoint(found.settings, 32)
    of = {"learned_accuracy": 0.82, "held_out_accuracy": 0.72, "held_out_queries": 103, "linear_share": 0.9}
    return disk(checkpoint=replace(file, meta={**file.meta, "validated": {"validation_loss": 0.07, **of}}))(found)


def no_validation(found: Collected) -> Collected:
    file = checkpoint(found.settings, 32)
    return disk(checkpoint=replace(file, meta={**file.meta, "validated": {"validation_loss": None}}))(found)


def refused_before_it_stopped(found: Collected) -> Collected:
    file = checkpoint(found.settings, 32)
    return disk(checkpoint=replace(file, meta={**file.meta, "refused": ["scorer-a", "it has rank 8"]}))(found)


RUNNING = dict.fromkeys(("tierstream-join", "tierstream-scorer", "tierstream-pairs", "tierstream-traces"), 1)

CASES: list[tuple[str, str, Change]] = [
    ("broker_unreachable", "critical", lambda f: replace(f, broker=None, broker_error="cannot be reached")),
    ("no_topics", "critical", broker(lag=[])),
    ("deleted_unread", "critical", broker(lag=[PartitionLag("tierstream", "feedback", 0, 3, 9, 2, 1.0, 4)])),
    ("topic_unfit", "critical", broker(topics_unfit=[TopicState(TopicSpec("t", 1, {"a": "1"}), 1, {"a": "2"})])),
    ("worker_runs_with_other_settings", "critical", worker(settings={"pairs.threshold": 60})),
    ("setting_not_in_effect", "critical", worker(settings={"scorer.groups_per_step": 8})),
    ("version_refused", "critical", worker(scorer={"version_refused": {"scorer-a": "it has rank 8"}})),
    ("version_refused", "critical", refused_before_it_stopped),
    (
        "not_served",
        "critical",
        disk(not_served={"policy": NotServed(version="dpo-a", reason="away", at=datetime.now(UTC))}),
    ),
    ("no_worker", "critical", broker(members={}, lag=waiting(9.0))),
    ("no_worker", "warning", broker(members={})),
    ("worker_not_ready", "critical", worker(ready=False, reason="no progress on feedback[0]")),
    ("behind", "warning", broker(lag=waiting(900.0))),
    ("no_trainer", "critical", broker(members=RUNNING, lag=waiting(1.0, "tierstream-trainer"))),
    ("no_role", "critical", broker(members={**RUNNING, "tierstream-pairs": 0})),
    ("not_validated_yet", "info", no_validation),
    ("validation_worse", "warning", worse_validation),
    ("memorises", "info", memorising),
    ("learning_rate_at_floor", "info", counted(decays_at_floor=6)),
    ("skipped_updates", "warning", counted(skipped_updates=1)),
    ("checkpoint_unreadable", "warning", disk(checkpoints_refused=("scorer-1",))),
    ("checkpoint_old", "warning", old_checkpoint),
    ("traces_unseen", "critical", broker(traces=[])),
    ("traces_unseen", "warning", broker(traces=[], members={})),
    ("trace_lines_unreadable", "warning", disk(traces_skipped={"traces.jsonl": 2})),
    ("capture_off", "warning", lambda f: replace(f, capture=None)),
    ("dead_letters", "warning", broker(dead_letters=Counter(orphan_feedback=3))),
    ("line_without_start", "critical", disk(missing_start=VersionError("dpo-a is of the line before", "promote it"))),
    (
        "version_not_announced",
        "critical",
        lambda f: broker(versions={"policy": {"version": "dpo-b"}})(disk(in_use={"policy": {"version": "dpo-a"}})(f)),
    ),
]


@pytest.mark.parametrize(("code", "severity", "change"), CASES, ids=[f"{c}-{s}" for c, s, _ in CASES])
def test_finding_comes_with_its_cause(code: str, severity: str, change: Change, tmp_path: Path) -> None:
    findings = make_report(change(collected(tmp_path, few=True))).findings
    assert (code, severity) in {(one.code, one.severity) for one in findings}
    assert all(one.text.strip() and one.remedy.strip() and "\n" not in one.text for one in findings)


def test_without_a_cause_there_is_nothing_critical(tmp_path: Path) -> None:
    report = make_report(collected(tmp_path))
    assert not report.critical
    assert {one.code for one in report.findings} == {
        "low_confidence_coverage",
        "more_pairs_needed",
        "labelled_answers_unused",
        "costliest_rule",
        "traces_not_eligible",
        "more_traces_needed",
    }


def test_a_role_that_nobody_runs_is_named_with_the_command_that_runs_it(tmp_path: Path) -> None:
    members = {**RUNNING, "tierstream-pairs": 0, "tierstream-traces": 0, "tierstream-trainer": 1}
    report = make_report(broker(members=members)(collected(tmp_path, few=True)))
    [found] = [one for one in report.findings if one.code == "no_role"]
    assert (found.text, found.remedy) == (
        "no process of role pairs, traces is running",
        "tierstream worker --roles pairs,traces",
    )
    assert report.deployment["workers"] == 1
    assert report.deployment["roles"] == {"join": 1, "scorer": 1, "pairs": 0, "traces": 0}


def test_the_rank_mismatch_is_critical_and_names_both_and_the_source(tmp_path: Path) -> None:
    report = make_report(collected(tmp_path, rank=8))
    assert report.critical
    first = report.findings[0]
    assert first.code == "architecture_mismatch"
    assert "rank 8 (7,145 parameters)" in first.text
    assert "rank 32 (28,193 parameters) is configured" in first.text
    assert "file tierstream.toml" in first.remedy
    assert "tierstream retrain" in first.remedy


def test_an_adapter_of_another_rank_is_critical(tmp_path: Path) -> None:
    version = {"version": "dpo-a", "tier": "dpo", "path": "models/dpo/dpo-a", "bytes": 9, "adapter": {"r": 4}}
    found = disk(versions={"scorer": [], "policy": [version]})(collected(tmp_path))
    assert [f.text for f in make_report(found).findings if f.severity == "critical"] == [
        "Tier 2, preference training (DPO): adapter rank is configured as 8, but 4 is in effect "
        "(adapter of models/dpo/dpo-a)"
    ]


def test_a_setting_that_its_training_did_not_have_is_critical(tmp_path: Path) -> None:
    """What counts is what the job's process read back from what it had built, not what was asked for."""
    asked = {"beta": 0.1, "seed": 0, "threads": 0, "lora_targets": "all-linear"}
    built = {"beta": 0.5, "seed": 0, "threads": 2, "lora_targets": "k_proj,q_proj", "linear_layers_without": 0}
    version = {"version": "dpo-a", "tier": "dpo", "path": "models/dpo/dpo-a", "bytes": 9, "adapter": {"r": 8}}
    settings = {"settings": {"training": asked, "effective": built}}
    found = disk(versions={"scorer": [], "policy": [{**version, **settings}]})(collected(tmp_path))
    assert [f.text for f in make_report(found).findings if f.severity == "critical"] == [
        "Tier 2, preference training (DPO): in training: beta is configured as 0.1, but 0.5 is in effect "
        "(models/dpo/dpo-a, as built)"
    ]


def test_reasoning_that_the_api_left_out_is_a_warning_that_names_its_setting(tmp_path: Path) -> None:
    found = collected(tmp_path)
    traces = tuple(
        replace(one, trace=one.trace.model_copy(update={"thinking": None, "thinking_omitted": True}))
        for one in found.disk.traces
    )
    report = make_report(disk(traces=traces)(found))
    (warning,) = [one for one in report.findings if one.code == "thinking_omitted"]
    assert warning.severity == "warning"
    assert warning.text == f"{len(traces)} of {len(traces)} traces had reasoning of which the API left the text out"
    assert 'thinking={"type": "adaptive", "display": "summarized"}' in warning.remedy


@pytest.mark.parametrize(
    ("series", "of", "command"),
    [
        (
            "progressive_loss",
            "",
            "if the judges mean it, `tierstream retrain`, else `tierstream models rollback scorer`",
        ),
        ("reward_rate", "source=user", "if this source is broken, `tierstream train --pause` until it is mended"),
        ("unknown_intents", "", "`tierstream audit --explain e-7`"),
    ],
)
def test_drift_is_told_for_a_day_with_the_command(series: str, of: str, command: str, tmp_path: Path) -> None:
    def told(at: float) -> list[Finding]:
        alarm = {"series": series, "of": of, "at": at, "before": 0.25, "experience_id": "e-7"}
        drift = {"alarms": [alarm], "newest_judgement": NOW, "unjudged": 0}
        report = make_report(broker(drift=drift)(collected(tmp_path, few=True)))
        return [finding for finding in report.findings if finding.code == "drift"]

    [finding] = told(NOW - 7200)
    assert finding.severity == "warning"
    assert finding.text.startswith(f"{series}{' of ' + of if of else ''} has left its mean of 0.25, 2.0 hours ago")
    assert "`tierstream audit --explain e-7`" in finding.remedy
    assert finding.remedy.endswith(command)
    assert told(NOW - 86_500) == []


@pytest.mark.parametrize(("by_itself", "returned"), [(False, False), (True, False), (True, True)])
def test_a_version_that_is_judged_worse_is_critical_and_an_unknown_one_is_told(
    by_itself: bool, returned: bool, tmp_path: Path
) -> None:
    found = collected(tmp_path, few=True)
    found = replace(
        found, settings=found.settings.model_copy(update={"serving": ServingSettings(rollback_when_worse=by_itself)})
    )
    comparison = {"difference": -0.21, "low": -0.33, "high": -0.09, "answers": 212, "answers_before": 1020}
    line = {"line": "dpo", "version": "dpo-b", "before": "dpo-a", "worse": True, "returned": returned}
    rewards = {"answers": 5, "reward": 0.25, "low": -0.5, "high": 0.9, "sources": {}}
    unknown = {"version": "gpt-x", "known": False, "in_use": False, **rewards}
    outcome = {"lines": [{**line, "comparison": comparison}], "versions": [unknown], "unnamed": 0}
    report = make_report(broker(outcome=outcome)(found))
    worse, named = (
        next(one for one in report.findings if one.code == f"version_{what}") for what in ("worse", "unknown")
    )
    assert (worse.severity, worse.text) == (
        "critical",
        "dpo-b is judged worse than dpo-a, which was in use before, by 0.21 [0.09, 0.33]: 212 answers against 1,020 "
        "that the same sources judged",
    )
    back = "tierstream models rollback dpo"
    assert worse.remedy == (
        f"a running worker goes back by itself; else {back}" if by_itself and not returned else back
    )
    assert (named.severity, named.text) == (
        "info",
        "the registry does not know gpt-x, which answers name as theirs: +0.25 [-0.50, +0.90] of 5 answers",
    )


def test_judgements_that_come_no_more_are_told_while_answers_come(tmp_path: Path) -> None:
    def told(newest: float, unjudged: int) -> list[str]:
        drift = {"alarms": [], "newest_judgement": newest, "unjudged": unjudged}
        report = make_report(broker(drift=drift)(collected(tmp_path, few=True)))
        return [finding.text for finding in report.findings if finding.code == "judgements_old"]

    assert told(NOW - 30 * 3600, 12) == ["the newest judgement is 30 hours old, and 12 answers came since"]
    assert told(NOW - 30 * 3600, 0) == told(NOW - 3600, 12) == []
