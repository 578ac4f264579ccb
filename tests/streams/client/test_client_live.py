"""The client library on a broker: delivery, iterators, groups, and what happens without a broker."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from anthropic.types import Message, TextBlock, Usage

from schemas.errors import ConnectionFailedError, TopicsError
from schemas.events import Experience, Feedback, ModelVersion, ScoreUpdate, Trace
from schemas.settings import Settings
from schemas.versions import BASES
from streams.client import AsyncClient, Client, Producer, follow
from streams.kafka.admin import ensure_topics
from streams.topics import topic_specs

pytestmark = pytest.mark.live

EXPERIENCE = Experience.model_validate(
    {"experience_id": "e1", "timestamp": 0, "query": "how is pump 4", "intent": {"type": "status"}, "voice_reply": "ok"}
)


def feedback(number: int) -> Feedback:
    return Feedback.model_validate(
        {"feedback_id": f"f{number}", "experience_id": "e1", "timestamp": 0, "source": "user", "reward": 0.5}
    )


def update(epoch: int, step: int) -> ScoreUpdate:
    return ScoreUpdate(
        experience_id="e1",
        reason="feedback_learned",
        items=(),
        scorer_version="v",
        scorer_epoch=epoch,
        scorer_step=step,
        feedback_id=f"f{step}",
        latency_ms=1.0,
    )


@pytest.fixture
def settings(request: pytest.FixtureRequest, prefix: str, tmp_path: Any) -> Settings:
    live = request.getfixturevalue(getattr(request, "param", "broker"))
    made = Settings.model_validate(
        {
            "data_dir": str(tmp_path),
            "kafka": {"bootstrap_servers": live.bootstrap},
            "topics": {"prefix": prefix, "partitions": 2},
        }
    )
    asyncio.run(ensure_topics(made, topic_specs(made)))
    return made


async def send(settings: Settings, *updates: ScoreUpdate) -> None:
    async with Producer(settings) as producer:
        for each in updates:
            await producer.send("score-updates", each)


@pytest.mark.parametrize("settings", ["broker", "lite_broker"], indirect=True)
def test_events_come_back_in_order_with_their_receipts(settings: Settings) -> None:
    with Client(settings) as client:
        client.publish(EXPERIENCE)
        receipts = client.publish_all(feedback(n) for n in range(50))
        last = client.submit(feedback(50))
        assert last.result(20).offset == 50
    assert [receipt.offset for receipt in receipts] == list(range(50))
    assert {receipt.topic for receipt in receipts} == {settings.topic("feedback")}

    async def read() -> list[str]:
        events = follow(settings, "feedback", Feedback, start="earliest", idle_seconds=1)
        return [event.feedback_id async for event in events]

    assert asyncio.run(read()) == [f"f{n}" for n in range(51)]


def test_buffer_is_bounded_and_leaving_the_client_waits_for_all(settings: Settings) -> None:
    async def run() -> int:
        most = 0
        async with AsyncClient(settings, max_in_flight=5) as client:
            for number in range(40):
                await client.submit(feedback(number))
                most = max(most, len(client._under_way))
        return most

    # A delivery leaves the buffer before its receipt is handed on, so one turn of the loop may see twice as many.
    assert asyncio.run(run()) <= 10
    with Client(settings) as client:
        assert client.publish(feedback(40)).offset == 40


def test_score_updates_without_repetitions_and_former_owners(settings: Settings) -> None:
    asyncio.run(send(settings, update(1, 1), update(1, 1), update(2, 2), update(1, 3), update(2, 3)))
    with Client(settings) as client:
        seen = [(u.scorer_epoch, u.scorer_step) for u in client.score_updates(start="earliest", idle_seconds=1)]
    assert seen == [(1, 1), (2, 2), (2, 3)]


def test_latest_sees_only_what_comes_after_it_began(settings: Settings) -> None:
    asyncio.run(send(settings, update(1, 1)))

    async def run() -> int:
        async with AsyncClient(settings) as client:
            reading = asyncio.ensure_future(anext(client.score_updates()))
            for step in range(2, 200):
                await send(settings, update(1, step))
                done, _ = await asyncio.wait({reading}, timeout=0.2)
                if done:
                    break
            return (await reading).scorer_step

    assert asyncio.run(run()) > 1


def test_reading_from_a_time(settings: Settings) -> None:
    asyncio.run(send(settings, update(1, 1)))
    time.sleep(0.05)
    moment = datetime.now(UTC)
    asyncio.run(send(settings, update(1, 2)))
    with Client(settings) as client:
        assert [u.scorer_step for u in client.score_updates(start=moment, idle_seconds=1)] == [2]


def test_group_goes_on_after_the_last_event_that_was_dealt_with(broker: Any, prefix: str, tmp_path: Any) -> None:
    settings = Settings.model_validate(
        {"kafka": {"bootstrap_servers": broker.bootstrap}, "topics": {"prefix": prefix, "partitions": 1}}
    )
    asyncio.run(ensure_topics(settings, topic_specs(settings)))
    asyncio.run(send(settings, *(update(1, step) for step in range(5))))
    with Client(settings) as client:
        first = client.score_updates(start="earliest", group=f"{prefix}g")
        assert [next(first).scorer_step for _ in range(3)] == [0, 1, 2]
        first.close()  # 2 was handed out and the next one not asked for: it may not have been dealt with
        rest = client.score_updates(start="earliest", group=f"{prefix}g", idle_seconds=4)
        assert [u.scorer_step for u in rest] == [2, 3, 4]


def test_model_versions_start_with_what_is_in_use(settings: Settings) -> None:
    version = ModelVersion(line="policy", tier="dpo", version="dpo-1", path="models/dpo/dpo-1", reason="promoted")

    async def run() -> list[ModelVersion]:
        async with Producer(settings) as producer:
            await producer.send("model-versions", version)
        async with AsyncClient(settings) as client:
            return [v async for v in client.model_versions(idle_seconds=1)]

    assert asyncio.run(run()) == [version]


def test_the_version_in_use_is_the_base_model_then_what_was_announced_last_whatever_the_scorer_does(
    settings: Settings,
) -> None:
    def announced(version: str) -> ModelVersion:
        return ModelVersion.model_validate(
            {"tier": version.partition("-")[0], "version": version, "path": "", "reason": "promoted"}
        )

    async def run() -> None:
        async with Producer(settings) as producer, AsyncClient(settings) as client:
            assert await client.version_in_use() == next(iter(BASES.values()))
            for version in ("dpo-1", "dpo-2", "scorer-3"):
                await producer.send("model-versions", announced(version))
            while await client.version_in_use() != "dpo-2":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            async with AsyncClient(settings) as later:
                assert await later.version_in_use() == "dpo-2"

    asyncio.run(asyncio.wait_for(run(), 60))


def test_captured_response_arrives_redacted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    response = Message(
        id="msg_1",
        content=[TextBlock(type="text", text="Ann's pump is fine")],
        model="m",
        role="assistant",
        type="message",
        usage=Usage(input_tokens=1, output_tokens=1),
    )
    about = {"messages": "q", "confidence": 1.0}
    with Client(settings, redact=lambda text: text.replace("Ann", "[name]")) as client:
        assert client.capture(response, **about) is None
        monkeypatch.setenv("ENABLE_TIER3_CAPTURE", "true")
        assert client.capture(response, **about) is not None

    async def read() -> list[str]:
        return [t.response async for t in follow(settings, "claude-traces", Trace, start="earliest", idle_seconds=1)]

    assert asyncio.run(read()) == ["[name]'s pump is fine"]


def test_event_that_is_not_published_from_outside_is_refused(settings: Settings) -> None:
    with Client(settings) as client, pytest.raises(TypeError, match="ScoreUpdate is not published from outside"):
        client.publish(update(1, 1))


@pytest.mark.parametrize("settings", ["broker", "lite_broker"], indirect=True)
def test_topic_that_is_not_there_is_named(settings: Settings) -> None:
    elsewhere = settings.model_copy(
        update={"topics": settings.topics.model_copy(update={"prefix": settings.topics.prefix + "x-"})}
    )
    with Client(elsewhere) as client, pytest.raises(TopicsError, match="x-score-updates is not there"):
        next(client.score_updates())


def test_broker_that_is_not_there_is_one_line() -> None:
    nowhere = Settings.model_validate({"kafka": {"bootstrap_servers": "127.0.0.1:1"}})
    with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1:1 cannot be reached"), Client(nowhere):
        pass
