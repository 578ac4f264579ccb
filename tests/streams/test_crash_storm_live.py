"""A dozen crashes at random moments, with what was learned compared to a fold of the log."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.live import Deployment
from tests.streams.test_stream_live import checkpointed, distinct, experience, feedback, folded_weights, of_feedback

pytestmark = [pytest.mark.live, pytest.mark.slow]

ROUNDS, FEEDBACKS = 12, 2400


def test_a_dozen_sigkills_lose_nothing_and_learn_nothing_twice(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    moments = random.Random(7)
    scorer = {"checkpoint_every_steps": 5, "groups_per_step": 8}
    with Deployment(bootstrap, prefix, tmp_path / "d", scorer=scorer) as stream:
        stream.publish("experiences", [experience(number) for number in range(FEEDBACKS)])
        share = FEEDBACKS // ROUNDS
        for first in range(0, FEEDBACKS, share):
            worker = stream.worker()
            stream.publish("feedback", [feedback(number) for number in range(first, first + share)])
            time.sleep(moments.uniform(0.0, 1.0))
            worker.kill()
        worker = stream.worker()
        stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= FEEDBACKS)
        stream.wait_until_idle()  # pairs follow behind
        status = worker.status()["scorer"]
        assert status["groups_learned"] + status["groups_held_out"] == FEEDBACKS
        assert status["arrived_scored"] == FEEDBACKS
        assert worker.end() == 0
        learner = checkpointed(stream)
        assert (learner.weights_hash(), learner.step) == folded_weights(stream)
        steps: dict[str, set[int]] = {}
        for update in stream.read("score-updates"):
            if update.get("feedback_id"):
                steps.setdefault(update["feedback_id"], set()).add(update["scorer_step"])
        assert {len(found) for found in steps.values()} == {1}
        pairs = {pair["pair_id"]: pair for pair in stream.read("preference-pairs")}
        used = Counter(
            (pair["kind"], pair[f"{side}_experience_id"]) for pair in pairs.values() for side in ("chosen", "rejected")
        )
        assert set(used.values()) == {1}
        assert len(distinct(stream.read("training-jobs"), "job_id")) == len(pairs) // 80
        assert stream.read("dead-letters") == []
