"""The reader on a running stream: it ranks with the newest scorer and follows promotions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import InputError
from schemas.events import ModelVersion, ScoreUpdate
from schemas.ranking import RankRequest
from streams.client.scorer import ScorerReader
from tests.live import Deployment
from tests.streams.test_retrain_live import publish, scorer, taken_in, told, until

pytestmark = [pytest.mark.live, pytest.mark.long]

REQUEST = RankRequest.model_validate(
    {
        "query": "how is pump 3",
        "intent": {"type": "status", "domains": ["pumps"]},
        "candidates": [
            {"item_id": kind, "widget_type": kind, "text": f"pressure as {kind}"} for kind in ("map", "gauge")
        ],
    }
)


async def eventually(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "the reader does not follow"
        await asyncio.sleep(0.2)


def test_reader_ranks_with_the_newest_scorer_and_follows_promotions(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    updates: list[ScoreUpdate] = []
    versions: list[ModelVersion] = []

    async def read(stream: Deployment) -> None:
        async with ScorerReader(stream.settings, updates.append, versions.append, refresh_seconds=0.2) as reader:
            with pytest.raises(InputError, match="holds no scorer yet"):
                reader.rank(REQUEST)
            await asyncio.to_thread(publish, stream, 0, 200)
            await eventually(lambda: len([u for u in updates if u.feedback_id]) >= 200)
            step = max(update.scorer_step for update in updates)
            await eventually(lambda: reader.step == step)
            # Users like gauges and dislike maps.
            assert [item.item_id for item in reader.rank(REQUEST)] == ["gauge", "map"]
            outcome = await asyncio.to_thread(told, stream, "retrain", "--promote")
            await eventually(lambda: bool(versions) and versions[-1].version == outcome["version"])
            await eventually(lambda: reader.scorer.about.version == outcome["version"])

    with Deployment(bootstrap, prefix, tmp_path / "d") as stream:
        worker = stream.worker()
        asyncio.run(read(stream))
        until(lambda: taken_in(worker) == 200, worker.status)
        until(lambda: scorer(worker).get("version") == versions[-1].version, worker.status)
