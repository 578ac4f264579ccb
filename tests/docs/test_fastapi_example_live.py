"""The FastAPI example, run as a service against a broker."""

from __future__ import annotations

import asyncio
import runpy
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from schemas.events import Experience, Feedback
from schemas.settings import Settings
from streams.client import follow
from streams.kafka.admin import ensure_topics
from streams.topics import topic_specs

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "fastapi_app.py"

pytestmark = pytest.mark.live


def test_answers_and_judgements_are_on_the_broker(broker: Any, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.model_validate(
        {"kafka": {"bootstrap_servers": broker.bootstrap}, "topics": {"prefix": prefix, "partitions": 1}}
    )
    asyncio.run(ensure_topics(settings, topic_specs(settings)))
    monkeypatch.setenv("TIERSTREAM_KAFKA__BOOTSTRAP_SERVERS", broker.bootstrap)
    monkeypatch.setenv("TIERSTREAM_TOPICS__PREFIX", prefix)
    monkeypatch.setenv("TIERSTREAM_TOPICS__PARTITIONS", "1")
    app = runpy.run_path(str(EXAMPLE))["app"]
    with TestClient(app) as web:
        answered = web.post("/answers", json={"query": "how is pump 4"})
        assert answered.status_code == 200
        of = answered.json()["experience_id"]
        judged = web.post(f"/answers/{of}/judgement", json={"good": False, "comment": "wrong pump"})
        assert judged.status_code == 202
        assert web.post("/answers", json={"query": ""}).status_code == 422

    async def read(topic: str, event: Any) -> list[Any]:
        return [e async for e in follow(settings, topic, event, start="earliest", idle_seconds=1)]

    [experience] = asyncio.run(read("experiences", Experience))
    [feedback] = asyncio.run(read("feedback", Feedback))
    assert (experience.experience_id, experience.query) == (of, "how is pump 4")
    assert (feedback.experience_id, feedback.reward, feedback.comment) == (of, -1.0, "wrong pump")
    assert feedback.feedback_id == judged.json()["feedback_id"]
