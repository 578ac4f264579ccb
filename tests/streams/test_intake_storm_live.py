"""Posts over keep-alive connections to a worker that is killed again and again: every 202 has its effect, once."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from benchmarks.posting import Posted, post_all
from streams.broker.launch import free_port
from tests.live import Deployment, Process
from tests.streams.test_roles_live import said_of_feedback
from tests.streams.test_stream_live import checkpointed, experience, feedback, folded_weights

pytestmark = [pytest.mark.live, pytest.mark.slow]

SECONDS = int(os.environ.get("INTAKE_STORM_SECONDS", "60"))
RATE, KILLS = 1000, 3
POSTS = SECONDS * RATE


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
        bodies = [feedback(number).to_json() for number in range(POSTS)]
        posting = asyncio.create_task(post_all(f"{worker.url}/v1/feedback", bodies, RATE))
        for _ in range(KILLS):
            await asyncio.sleep(SECONDS / (KILLS + 1))
            worker.kill()
            worker = worker_at(stream, port)
        return await posting

    with Deployment(bootstrap, prefix, tmp_path / "d", pairs={"patience": 0}) as stream:
        stream.publish("experiences", [experience(number) for number in range(POSTS)])
        posted = asyncio.run(storm())
        print(f"{posted}, load {os.getloadavg()[0]:.1f}")
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
        assert worker.end(120) == 0
        learner = checkpointed(stream)
        assert (learner.weights_hash(), learner.step) == folded_weights(stream)
