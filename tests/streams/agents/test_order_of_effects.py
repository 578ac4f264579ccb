"""What an agent leads to is published before the state that would keep it from being led to again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from schemas.events import Experience, Feedback, PreferencePair
from schemas.settings import Settings
from streams import topics
from streams.transport.batch import RecordBatch
from streams.worker.role_app import TierstreamApp
from tests.contract.test_contract import V1
from tests.streams.agents.test_traces import trace
from tests.streams.offline import KeptPublisher, batch, offline_app, record
from tests.trainers.jobs.tiny import answer
from trainers.traces.store import TraceStore


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate(
        {
            "data_dir": str(tmp_path),
            "topics": {"partitions": 1},
            "pairs": {"threshold": 1},
        }
    )


def agent_of(app: TierstreamApp, name: str) -> Any:
    agent = getattr(app.agents_of_ours, name)
    assert agent is not None
    return agent


def assert_outputs_come_first(kept: KeptPublisher, output: str) -> None:
    """Fail where a record of a changelog was published before the last output."""
    names = [message.topic for message in kept.messages]
    state = [place for place, name in enumerate(names) if name.endswith("-changelog")]
    assert output in names
    assert state
    assert max(place for place, name in enumerate(names) if name == output) < state[0]


def events() -> list[Any]:
    said = {"experience_id": "e", "timestamp": 1}
    plan = [{"widget_id": "w", "widget_type": "gauge", "text": "pressure"}]
    asked = {**said, "query": "q", "intent": {"type": "s", "domains": ["d"]}, "widget_plan": plan}
    judged = {**said, "feedback_id": "f", "source": "evaluator", "reward": 1.0, "evaluation_confidence": 0.9}
    return [Experience.model_validate(asked), Feedback.model_validate(judged)]


def test_the_join_keeps_an_experience_and_a_judgement_once_they_are_handed_on(settings: Settings) -> None:
    with offline_app(settings, "join") as (app, kept):
        for name, event in zip((topics.EXPERIENCES, topics.FEEDBACK), events(), strict=True):
            kept.messages.clear()
            asyncio.run(agent_of(app, "join").process(batch(name, event)))
            assert_outputs_come_first(kept, topics.SCORER_LOG)
        assert topics.ANSWERS in [message.topic for message in kept.messages]


def test_answers_are_used_once_their_pair_is_published(settings: Settings) -> None:
    with offline_app(settings, "pairs") as (app, kept):
        records = [record(answer(1, good).to_json(), offset) for offset, good in enumerate((True, False))]
        asyncio.run(agent_of(app, "pairs").process(RecordBatch(topics.ANSWERS, 0, records)))
        assert_outputs_come_first(kept, topics.PAIRS)


def test_pairs_are_used_once_their_job_is_published(settings: Settings) -> None:
    line = (V1 / "PreferencePair.jsonl").read_bytes().splitlines()[0]
    with offline_app(settings, "pairs") as (app, kept):
        asyncio.run(agent_of(app, "dpo").process(batch(topics.PAIRS, PreferencePair.from_json(line))))
        assert_outputs_come_first(kept, topics.JOBS)


def test_a_trace_is_stored_once_it_is_handed_on(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[int] = []

    async def publish(self: KeptPublisher, messages: Any) -> list[Any]:
        stored.append(len(list(TraceStore(Path(settings.data_dir) / "traces").read())))
        return []

    monkeypatch.setattr(KeptPublisher, "publish", publish)
    with offline_app(settings, "traces") as (app, _):
        asyncio.run(agent_of(app, "traces").process(RecordBatch(topics.TRACES, 0, [record(trace(1).to_json())])))
        agent_of(app, "traces").forget()
    assert stored == [0]
    assert len(list(TraceStore(Path(settings.data_dir) / "traces").read())) == 1
