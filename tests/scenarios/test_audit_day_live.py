"""The audit's day through the running system: worker and trainer as processes on a real broker."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.live import Deployment, Process
from tests.scenarios.audit_day import audit_day, top_up, traces, write_legacy_traces
from tests.test_observability import DASHBOARD, RULES, asked, sample_names, values
from tests.trainers.jobs import tiny
from trainers.traces.store import TraceStore

pytestmark = pytest.mark.live


def read_metrics(worker: Process) -> None:
    """What the dashboard and the rules ask for is there, and tells of this day."""
    deadline = time.monotonic() + 30
    alive = f'tierstream_consumers{{group="{worker.settings.group_id}-pairs"}} 1.0'
    while alive not in (text := worker.get("/metrics")[1].decode()):
        assert time.monotonic() < deadline, "the broker was not observed since the worker joined"
        time.sleep(0.5)
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    expressions += [rule["expr"] for rule in RULES]
    assert set().union(*map(asked, expressions)) <= sample_names(text)
    found = values(text)
    assert found["tierstream_pending_examples", ("dpo", "pairs")] == 15
    assert found["tierstream_pairs", ("pairs", "widget")] == 13
    assert found["tierstream_pair_answers", ("dropped_chosen_no_confidence", "pairs", "widget")] == 130
    assert found["tierstream_scorer_parameters", ("scorer",)] == 7145
    assert found["tierstream_feedback_to_score_seconds_count", ("scorer",)] > 0


def read_audit(stream: Deployment, worker: Process) -> None:
    """The audit finds by itself what a person found by hand, and the worker's rank against the configured one."""
    configured = {"TIERSTREAM_SCORER__RANK": "32", "TIERSTREAM_WEB__PORT": str(worker.port)}
    done = stream.command("audit", "--json", **configured)
    assert done.returncode == 1, done.stderr
    report = orjson.loads(done.stdout)
    tiers, findings = report["tiers"], {found["code"]: found for found in report["findings"]}
    assert {name: tier["state"] for name, tier in tiers.items()} == {
        "scorer": "COMPLETED",
        "dpo": "SKIPPED",
        "sft": "SKIPPED",
    }
    assert (tiers["dpo"]["have"], tiers["dpo"]["need"], tiers["dpo"]["missing"]) == (15, 80, 65)
    assert tiers["dpo"]["why"] == "not enough yet: 15/80 pairs, 65 more needed"
    assert {kind: counts["pairs"] for kind, counts in report["funnel"].items()} == {"widget": 13, "voice": 2}
    widget, rewards = report["costs"]["widget"], report["rewards"]["widget"]
    assert (widget["chosen"], widget["rejected"], widget["candidate_pairs"]) == (167, 312, 52_104)
    assert widget["comparable"] + sum(rule["rejected"] for rule in widget["pair_rules"]) == 52_104
    assert [rewards[side]["count"] for side in ("positive", "negative", "neutral")] == [297, 312, 121]
    assert (rewards["with_confidence"], rewards["low_confidence"]) == (167, 0)
    assert (report["traces"]["on_disk"], report["traces"]["seen_by_stream"]) == (2, 2)
    assert {(line["output_tokens"], line["grade"]) for line in report["newest_traces"]} == {
        (504, "excellent"),
        (679, "limited"),
    }
    unused = findings["labelled_answers_unused"]["text"]
    assert unused == "453 labelled answers wait unused: 5 jobs of 80, with unpaired.enabled"
    mismatch = findings["architecture_mismatch"]
    assert mismatch["severity"] == "critical"
    assert "rank 8 (7,145 parameters)" in mismatch["text"]
    assert "rank 32 (28,193 parameters)" in mismatch["text"]
    assert [f["code"] for f in report["findings"] if f["severity"] == "critical"] == ["architecture_mismatch"]
    assert stream.command("audit", "--json", TIERSTREAM_WEB__PORT=str(worker.port)).returncode == 0

    pair = stream.read("preference-pairs")[0]
    told = stream.command("audit", "--explain", pair["chosen_experience_id"], "--json")
    assert told.returncode == 0, told.stderr
    lines = [line for chapter in orjson.loads(told.stdout)["chapters"] for line in chapter["lines"]]
    assert any(f"pair {pair['pair_id']}: chosen, against {pair['rejected_experience_id']}" in line for line in lines)
    assert any(line.endswith("of the 80 pairs of the next job") for line in lines)
    assert any("was learned in step" in line or "was held out" in line for line in lines)
    unknown = stream.command("audit", "--explain", pair["chosen_experience_id"] + "x")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert f"did you mean '{pair['chosen_experience_id']}'?" in unknown.stderr


def settled(update: dict[str, Any]) -> bool:
    return update["state"] in ("finished", "failed")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_audits_day_gives_15_of_80_pairs_then_one_job_a_tier(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    day = audit_day(1)
    data = tmp_path / "d"
    (data / "traces").mkdir(parents=True)
    write_legacy_traces(data / "traces")
    jobs = tiny.settings(tiny.build_model(tmp_path / "base"), max_steps=2).jobs.model_dump(
        include={"base_model": True, "dpo": True, "sft": True, "gate": True}, mode="json", exclude_unset=True
    )
    # The day's good and bad answers never share a query, and its pairs are wanted at once.
    rules = {"traces": {"max_tokens": 16384}, "scorer": {"rank": 8}, "pairs": {"patience": 0}}
    with Deployment(bootstrap, prefix, data, **rules, jobs=jobs) as stream:
        worker = stream.worker()
        assert "2 traces of the replaced system are not in the stream" in worker.log.read_text()
        imported = stream.command("import", "tierstream", str(data / "traces"))
        assert imported.returncode == 0, imported.stderr
        stream.start("trainer")
        stream.publish("experiences", day.experiences)
        stream.publish("feedback", day.feedbacks)
        ids = {feedback.feedback_id for feedback in day.feedbacks}
        stream.wait_for("score-updates", lambda values: ids <= {value.get("feedback_id") for value in values})
        pairs = stream.wait_for("preference-pairs", lambda values: len(values) >= 15)
        # A pair waits for its job once the role has read what it has published, and answers come behind it.
        status = worker.wait_for_status(
            lambda status: (
                status["dpo"]["waiting"] >= len(pairs)
                and all(figures["answers"] >= 730 for figures in status["pair_funnel"].values())
            )
        )
        assert sorted(pair["kind"] for pair in pairs) == ["voice"] * 2 + ["widget"] * 13
        assert (status["dpo"]["waiting"], status["dpo"]["threshold"], status["dpo"]["jobs"]) == (15, 80, 0)
        assert status["scorer"]["groups_learned"] + status["scorer"]["groups_held_out"] == len(ids)
        for kind, figures in status["pair_funnel"].items():
            assert figures["answers"] == 730, kind
            assert sum(figures["dropped"].values()) + sum(figures["waiting"].values()) + figures["paired"] == 730
        found = {stored.trace.output_tokens: stored.trace for stored in TraceStore(data / "traces").read()}
        assert set(found) == {504, 679}
        assert (found[504].input_tokens, found[504].latency_seconds, bool(found[504].thinking)) == (140, 14.9, True)
        assert (found[679].input_tokens, found[679].latency_seconds, found[679].thinking) == (12837, 11.4, None)
        assert (status["sft"]["waiting"], status["sft"]["threshold"]) == (1, 100)

        read_metrics(worker)
        stream.wait_until_idle()  # what a role has not committed yet still counts as waiting
        read_audit(stream, worker)
        more = top_up(day)
        stream.publish("feedback", more.feedbacks)
        stream.publish("experiences", more.experiences)
        stream.publish("claude-traces", traces(99))
        updates = stream.wait_for("job-updates", lambda values: sum(map(settled, values)) >= 2)
        assert {(u["tier"], u["state"]) for u in updates if settled(u)} == {("dpo", "finished"), ("sft", "finished")}
        jobs = stream.read("training-jobs")
        assert sorted((job["tier"], job["example_count"]) for job in jobs) == [("dpo", 80), ("sft", 100)]
        dpo = next(job for job in jobs if job["tier"] == "dpo")
        lines = [orjson.loads(line) for line in (data / dpo["dataset_path"]).read_bytes().splitlines()]
        assert len({line["pair_id"] for line in lines}) == 80
        assert stream.read("dead-letters") == []
        results = [orjson.loads(path.read_bytes()) for path in sorted(data.glob("jobs/*/result.json"))]
        promoted = {result["version"] for result in results if result["promoted"]}
        stream.wait_for("model-versions", lambda values: {value["version"] for value in values} == promoted)

        worker.end()
        done = stream.command("audit", "--json")
        report = orjson.loads(done.stdout)
        assert done.returncode == 0, report["findings"]
        assert {name: tier["state"] for name, tier in report["tiers"].items()} == dict.fromkeys(
            ("scorer", "dpo", "sft"), "COMPLETED"
        )
        assert (report["tiers"]["dpo"]["have"], report["tiers"]["sft"]["have"]) == (0, 0)
        assert report["tiers"]["scorer"]["figures"]["read_from"].startswith("checkpoint scorer-")
        told = stream.command("audit", "--explain", pairs[0]["chosen_experience_id"])
        assert f"in job {dpo['job_id']} (finished)" in told.stdout
