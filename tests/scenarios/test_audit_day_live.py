"""The audit's day through the running system: worker and trainer as processes on a real broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.live import Deployment
from tests.scenarios.audit_day import audit_day, top_up, traces, write_legacy_traces
from trainers.traces.store import TraceStore

pytestmark = pytest.mark.live


def settled(update: dict[str, Any]) -> bool:
    return update["state"] in ("validated", "failed")


def test_the_audits_day_gives_15_of_80_pairs_then_one_job_a_tier(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    day = audit_day(1)
    data = tmp_path / "d"
    (data / "traces").mkdir(parents=True)
    write_legacy_traces(data / "traces")
    with Deployment(bootstrap, prefix, data, traces={"max_tokens": 16384}) as stream:
        worker = stream.worker()
        stream.start("trainer")
        stream.publish("experiences", day.experiences)
        stream.publish("feedback", day.feedbacks)
        ids = {feedback.feedback_id for feedback in day.feedbacks}
        stream.wait_for("score-updates", lambda values: ids <= {value.get("feedback_id") for value in values})
        pairs = stream.wait_for("preference-pairs", lambda values: len(values) >= 15)
        status = worker.status()
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

        more = top_up(day)
        stream.publish("feedback", more.feedbacks)
        stream.publish("experiences", more.experiences)
        stream.publish("claude-traces", traces(99))
        updates = stream.wait_for("job-updates", lambda values: sum(map(settled, values)) >= 2)
        assert {(u["tier"], u["state"]) for u in updates if settled(u)} == {("dpo", "validated"), ("sft", "validated")}
        jobs = stream.read("training-jobs")
        assert sorted((job["tier"], job["example_count"]) for job in jobs) == [("dpo", 80), ("sft", 100)]
        dpo = next(job for job in jobs if job["tier"] == "dpo")
        lines = [orjson.loads(line) for line in (data / dpo["dataset_path"]).read_bytes().splitlines()]
        assert len({line["pair_id"] for line in lines}) == 80
        assert stream.read("dead-letters") == []
        assert stream.read("model-versions") == []
