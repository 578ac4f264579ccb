"""The audit's day with labelled answers on: five KTO jobs beside its pairs, no answer in both, through a SIGKILL."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.live import Deployment
from tests.scenarios.audit_day import audit_day

pytestmark = pytest.mark.live

PATIENCE = 30.0
"""Longer than the day takes to arrive, so that each answer has its chance of a partner."""


def answers_of(pairs: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(pair["kind"], pair[f"{side}_experience_id"]) for pair in pairs for side in ("chosen", "rejected")}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_audits_day_gives_5_kto_jobs_beside_its_15_pairs_and_no_answer_trains_twice(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    day, data = audit_day(1), tmp_path / "d"
    rules = {"pairs": {"patience": PATIENCE}, "join": {"tick_interval": 0.5}, "unpaired": {"enabled": True}}
    with Deployment(bootstrap, prefix, data, **rules) as stream:
        worker = stream.worker()
        stream.publish("experiences", day.experiences)
        stream.publish("feedback", day.feedbacks)
        stream.wait_for("unpaired-answers", lambda values: len(values) >= 10)
        worker.kill()
        worker = stream.worker()
        alone = stream.wait_for("unpaired-answers", lambda values: len({v["answer_id"] for v in values}) >= 453)
        jobs = stream.wait_for("training-jobs", lambda values: len({v["job_id"] for v in values}) >= 5)
        stream.wait_until_idle()

        pairs = {pair["pair_id"]: pair for pair in stream.read("preference-pairs")}
        assert Counter(pair["kind"] for pair in pairs.values()) == {"widget": 13, "voice": 2}
        alone = {value["answer_id"]: value for value in stream.read("unpaired-answers")}
        assert Counter((v["kind"], v["good"]) for v in alone.values()) == {
            ("widget", True): 154,
            ("widget", False): 299,
        }
        assert answers_of(list(pairs.values())).isdisjoint((v["kind"], v["experience_id"]) for v in alone.values())

        jobs = {job["job_id"]: job for job in stream.read("training-jobs")}.values()
        assert [(job["tier"], job["example_count"]) for job in jobs] == [("kto", 80)] * 5
        used = [orjson.loads(line) for job in jobs for line in (data / job["dataset_path"]).read_bytes().splitlines()]
        assert len({line["answer_id"] for line in used}) == 400
        for job in jobs:
            sides = Counter(orjson.loads(x)["good"] for x in (data / job["dataset_path"]).read_bytes().splitlines())
            assert min(sides.values()) >= 20
            assert job["settings"]["training"]["beta"] == stream.settings.jobs.dpo.beta

        status = worker.status()
        assert (status["dpo"]["waiting"], status["kto"]["jobs"]) == (15, 5)
        assert status["pair_funnel"]["widget"]["unpaired"] == 453
        report = orjson.loads(stream.command("audit", "--json").stdout)
        kto = report["tiers"]["kto"]
        assert (kto["state"], kto["figures"]["jobs"], kto["figures"]["distinct"]) == ("RUNNING", 5, 453)
        assert report["unused"] == {"enabled": True, "good": 0, "bad": 0, "jobs": 0, "threshold": 80}
        told = stream.command("audit", "--explain", used[0]["experience_id"]).stdout
        assert "it trains by itself as a" in told
        assert "(queued)" in told or "in job kto-" in told
