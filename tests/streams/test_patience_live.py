"""Answers of two queries are paired once patience is over, though nothing more comes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.events import Feedback
from tests.live import Deployment
from tests.streams.test_stream_live import experience, feedback, of_feedback

pytestmark = pytest.mark.live

PATIENCE = 4.0


def judged(number: int, reward: float) -> Feedback:
    return feedback(number, reward=reward)


def prompts(pairs: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(pair["prompt"], pair["rejected_prompt"]) for pair in pairs}


@pytest.mark.long
def test_patience_ends_on_a_quiet_topic_and_a_worker_that_starts_anew(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    rules = {"pairs": {"patience": PATIENCE}, "join": {"tick_interval": 0.5}}
    with Deployment(bootstrap, prefix, tmp_path / "d", **rules) as stream:
        worker = stream.worker()
        stream.publish("experiences", [experience(n) for n in (1, 2, 41)])  # 1 and 41 share a query
        stream.publish("feedback", [judged(2, -1.0), judged(1, 1.0), judged(41, -1.0)])
        pairs = stream.wait_for("preference-pairs", lambda values: len(values) >= 2)
        assert prompts(pairs) == {("how is pump 1", "how is pump 1")}
        assert worker.status()["pair_funnel"]["widget"]["waiting"] == {"chosen": 0, "rejected": 1}
        stream.publish("experiences", [experience(3)])
        stream.publish("feedback", [judged(3, 1.0)])
        stream.wait_for("score-updates", lambda values: "f3" in of_feedback(values))
        worker.kill()
        worker = stream.worker()
        pairs = stream.wait_for("preference-pairs", lambda values: len(values) >= 4)
        assert prompts(pairs[2:]) == {("how is pump 3", "how is pump 2")}
        funnel = worker.status()["pair_funnel"]["widget"]
        assert (funnel["paired"], funnel["waiting_for_same_query"]) == (4, 0)
        stamps = [record.timestamp for record in stream.records(stream.settings.topic("answers"))]
        assert max(stamps) - min(stamps) >= PATIENCE * 1000
        assert json.loads(stream.command("audit", "--json").stdout)["funnel"]["voice"]["pairs"] == 2
