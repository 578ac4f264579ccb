"""What the worker tells of embeddings: where they came from, and that two models met."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from schemas.events import Experience
from schemas.settings import Settings
from tests.streams.offline import batch, offline_app


def experience(name: str, **changes: Any) -> Experience:
    fields = {"experience_id": name, "timestamp": 1, "query": "how is pump 4", "intent": {"type": "s", "domains": []}}
    plan = [{"widget_id": "w", "widget_type": "gauge", "text": "pressure"}]
    return Experience.model_validate({**fields, "widget_plan": plan, **changes})


BRINGS = {"query_embedding": [0.1] * 384, "item_embeddings": {"w": [0.2] * 384}}


def embedding_after(
    tmp_path: Path, *events: Experience, embedder: str = "hash"
) -> tuple[dict[str, Any], dict[str, float | None]]:
    settings = Settings.model_validate(
        {
            "data_dir": str(tmp_path),
            "topics": {"partitions": 1},
            "scorer": {"embedder": embedder},
        }
    )
    with offline_app(settings, "join") as (app, _):
        join = app.agents_of_ours.join
        assert join is not None
        for event in events:
            asyncio.run(join.process(batch("experiences", event)))
        value = app.services.metrics.registry.get_sample_value
        counted = {s: value("tierstream_embeddings_total", {"source": s}) for s in ("cache", "model")}
        return join.embedding(), counted


def test_hits_and_cost_of_embedding_are_told(tmp_path: Path):
    found, counted = embedding_after(tmp_path, experience("a"), experience("b"))
    assert (found["supplied"], found["cache"], found["model"], found["hit_rate"]) == (0, 2, 2, 0.5)
    assert found["seconds_per_text"] > 0
    assert counted == {"cache": 2.0, "model": 2.0}


def test_vectors_of_two_models_are_said_to_be_mixed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        found, _ = embedding_after(tmp_path, experience("a"), experience("b", **BRINGS), experience("c", **BRINGS))
    assert (found["supplied"], found["mixed"]) == (4, True)
    assert len([record for record in caplog.records if "do not compare" in record.message]) == 1
    assert embedding_after(tmp_path, experience("b", **BRINGS))[0]["mixed"] is False
    assert embedding_after(tmp_path, experience("b", **BRINGS), embedder="supplied")[0]["mixed"] is False
