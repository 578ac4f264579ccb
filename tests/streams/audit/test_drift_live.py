"""What was judged is followed on a broker: once read, only what is new; bytes that are no event are passed over."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.events import Feedback
from streams.audit.drift import DriftReader
from tests.live import Deployment

pytestmark = pytest.mark.live


def feedbacks(first: int, last: int, reward: float) -> list[Feedback | bytes]:
    return [
        Feedback(feedback_id=f"f{n}", experience_id=f"e{n}", timestamp=datetime.now(UTC), source="user", reward=reward)
        for n in range(first, last)
    ]


def test_a_source_that_turns_is_found_again_by_whoever_begins_later(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    with Deployment(bootstrap, prefix, tmp_path / "d", topics={"partitions": 2}) as stream:
        stream.publish("feedback", [*feedbacks(0, 300, 0.9)])
        stream.publish("feedback", [b"no event"], key="e1")

        async def follow() -> None:
            async with DriftReader(stream.settings) as reader:
                first = (await reader.look()).as_dict()
                assert first["alarms"] == []
                await asyncio.to_thread(stream.publish, "feedback", [*feedbacks(300, 500, -0.9)])
                second = (await reader.look()).as_dict()
                assert [(one["series"], one["of"]) for one in second["alarms"]] == [("reward_rate", "source=user")]
                assert second["newest_judgement"] > first["newest_judgement"]
            async with DriftReader(stream.settings) as later:
                again = (await later.look()).as_dict()
            assert [one["of"] for one in again["alarms"]] == ["source=user"]

        asyncio.run(follow())
