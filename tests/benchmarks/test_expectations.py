from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from benchmarks.expectations import Published, counted, differences, failed_data, failed_expectations
from benchmarks.observed import Observed, Scores, Traces
from schemas.events import TrainingJob

PUBLISHED = Published(experiences={"e1", "e2"}, feedback={"f1", "f2"}, traces=())


def seen(**changes: Any) -> Observed:
    whole = Observed(
        scores=Scores(
            arrived={"e1": (0.1,), "e2": (0.2,)},
            judged={"f1": {("feedback_learned", 1)}, "f2": {("feedback_held_out", 0)}},
        ),
        dead_letters={},
        pair_ids=("p1",),
        jobs={},
        dpo_datasets={},
        sft_datasets={},
        traces=Traces(stored=0, eligible=0, reasons={}),
        scorer={"groups_learned": 1, "groups_held_out": 1, "arrived_scored": 2, "parameters": 28193},
        funnel={},
    )
    return replace(whole, **changes)


def test_a_whole_run_fails_nothing() -> None:
    assert failed_expectations(seen(), PUBLISHED, rank=32) == []
    assert counted(seen()) == (2, 1, 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scores": Scores(arrived={"e1": ()}, judged=seen().scores.judged)}, "1 of 2 experiences were scored"),
        ({"dead_letters": {"orphan_feedback": 1}}, "dead letters: {'orphan_feedback': 1}"),
        ({"scorer": seen().scorer | {"groups_learned": 2}}, "the scorer counts 3 feedbacks over its life"),
        ({"scorer": seen().scorer | {"arrived_scored": 3}}, "the scorer counts 3 experiences over its life"),
        ({"scorer": seen().scorer | {"parameters": 7145}}, "the scorer has 7145 parameters, not 28,193"),
        ({"pair_ids": tuple(map(str, range(80)))}, "0 DPO jobs, not 1 = floor(80 / 80)"),
        ({"traces": Traces(stored=100, eligible=100, reasons={})}, "0 SFT jobs, not 1"),
    ],
)
def test_each_failed_expectation_is_named(changes: dict[str, Any], words: str) -> None:
    assert failed_expectations(seen(**changes), PUBLISHED, rank=32) == [words]


def test_a_feedback_learned_twice_is_named() -> None:
    judged = {**seen().scores.judged, "f1": {("feedback_learned", 1), ("feedback_learned", 2)}}
    [found] = failed_expectations(seen(scores=Scores(seen().scores.arrived, judged)), PUBLISHED, rank=32)
    assert "in two steps" in found


def test_figures_that_are_not_the_recorded_datas_are_named() -> None:
    assert len(failed_data(seen())) == 4


def test_runs_with_the_same_ids_do_not_differ() -> None:
    assert differences(seen(), seen()) == []


def test_a_lost_pair_and_a_job_more_are_differences() -> None:
    job = TrainingJob(
        job_id="j",
        tier="dpo",
        dataset_path="jobs/j/dataset.jsonl",
        dataset_sha256="0",
        example_count=80,
        base_model="m",
        settings={},
        requested_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    found = differences(seen(pair_ids=(), jobs={"j": job}), seen())
    assert [line.split(": ")[1] for line in found] == ["pair ids", "jobs ['j'] and []", "the jobs' datasets"]
