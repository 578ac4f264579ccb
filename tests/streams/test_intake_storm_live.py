"""Posts over keep-alive connections to a worker that is killed again and again: every 202 has its effect, once."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import ClientConnectionError, ClientSession, ClientTimeout, TCPConnector

from streams.broker.launch import free_port
from tests.live import Deployment, Process
from tests.streams.test_roles_live import said_of_feedback
from tests.streams.test_stream_live import checkpointed, experience, feedback, folded_weights

pytestmark = [pytest.mark.live, pytest.mark.slow]

SECONDS = int(os.environ.get("INTAKE_STORM_SECONDS", "60"))
RATE, KILLS, CONNECTIONS = 1000, 3, 64
POSTS = SECONDS * RATE
JSON = {"Content-Type": "application/json"}


@dataclass(slots=True)
class Posted:
    """What became of posts."""

    accepted: list[int] = field(default_factory=list)
    """Numbers of the feedbacks that were answered with 202."""
    tries: int = 0
    """Posts, those included that got no answer or another one: each of these was sent again."""
    seconds: float = 0.0
    refused: set[int] = field(default_factory=set)
    """Status codes of other answers."""


async def post_at(url: str, rate: float, count: int) -> Posted:
    """Post so many feedbacks on their due times, or as soon as a connection is free; each until it is accepted."""
    posted, numbers = Posted(), iter(range(count))
    began = time.monotonic()

    async def connection(client: ClientSession) -> None:
        for number in numbers:
            await asyncio.sleep(began + number / rate - time.monotonic())
            body = feedback(number).to_json()
            while not await accepted(client, body):
                await asyncio.sleep(0.1)
            posted.accepted.append(number)

    async def accepted(client: ClientSession, body: bytes) -> bool:
        posted.tries += 1
        try:
            async with client.post(f"{url}/v1/feedback", data=body, headers=JSON) as answer:
                if answer.status != 202:
                    posted.refused.add(answer.status)
                return answer.status == 202
        except (ClientConnectionError, TimeoutError):
            return False

    connector = TCPConnector(limit=CONNECTIONS)
    async with ClientSession(connector=connector, timeout=ClientTimeout(total=30)) as client:
        await asyncio.gather(*(connection(client) for _ in range(CONNECTIONS)))
    posted.seconds = time.monotonic() - began
    return posted


def worker_at(stream: Deployment, port: int) -> Process:
    """Start a worker where the one before was, with its state: what a supervisor does."""
    state = str(stream.data_dir.parent / "state")
    worker = stream.start("worker", TIERSTREAM_WEB__PORT=str(port), TIERSTREAM_STATE_DIR=state)
    worker.port = port
    return worker


@pytest.mark.timeout(1800)
def test_every_accepted_post_has_its_effect_once_while_the_worker_is_killed(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    port = free_port()

    async def storm() -> Posted:
        worker = worker_at(stream, port)
        await asyncio.to_thread(worker.wait_until_ready)
        posting = asyncio.create_task(post_at(worker.url, RATE, POSTS))
        for _ in range(KILLS):
            await asyncio.sleep(SECONDS / (KILLS + 1))
            worker.kill()
            worker = worker_at(stream, port)
        return await posting

    with Deployment(bootstrap, prefix, tmp_path / "d", pairs={"patience": 0}) as stream:
        stream.publish("experiences", [experience(number) for number in range(POSTS)])
        posted = asyncio.run(storm())
        print(
            f"{len(posted.accepted)} accepted of {posted.tries} posts over {CONNECTIONS} connections in "
            f"{posted.seconds:.1f} s, {len(posted.accepted) / posted.seconds:.0f} a second, load {os.getloadavg()[0]:.1f}"
        )
        assert posted.refused <= {429, 503}
        worker = stream.processes[-1]
        worker.wait_until_ready()
        stream.wait_until_idle(900)

        said = said_of_feedback(stream)
        assert set(said) == {f"f{number}" for number in posted.accepted}
        assert {len(steps) for steps in said.values()} == {1}
        scorer = worker.status()["scorer"]
        assert scorer["groups_learned"] + scorer["groups_held_out"] == POSTS
        assert stream.read("dead-letters") == []
        assert worker.end() == 0
        learner = checkpointed(stream)
        assert (learner.weights_hash(), learner.step) == folded_weights(stream)
