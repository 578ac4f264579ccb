from __future__ import annotations

import itertools

import orjson
import pytest

from benchmarks.load import Load
from benchmarks.peers.learners import LEARNERS
from benchmarks.peers.work import Work
from schemas.settings import Settings


@pytest.mark.parametrize("name", LEARNERS)
def test_each_feedback_is_scored_then_learned_then_scored(name: str) -> None:
    load = Load(Settings(), 1)
    (experience,) = [message.value or b"" for message in load.experiences()]
    judgement = orjson.loads(load.feedback(0, 1)[0].value or b"")
    work = Work(learner=LEARNERS[name]())
    (arrived,) = work.arrive([experience])
    values = [orjson.dumps({**judgement, "feedback_id": f"f{number}", "reward": 0.9}) for number in range(40)]
    updates = [orjson.loads(value) for _, value in work.judge(values)]
    assert orjson.loads(arrived[1])["reason"] == "experience_arrived"
    assert [update["scorer_step"] for update in updates] == list(range(1, 41))
    assert [update["feedback_id"] for update in updates] == [f"f{number}" for number in range(40)]
    for before, after in itertools.pairwise(updates):
        assert [item["previous_score"] for item in after["items"]] == [item["score"] for item in before["items"]]
    assert all(
        abs(item["score"] - 0.9) < abs(first["previous_score"] - 0.9)
        for item, first in zip(updates[-1]["items"], updates[0]["items"], strict=True)
    )
