"""`health` of each role against a broker."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.live import Deployment, command_here

pytestmark = pytest.mark.live

WAIT_SECONDS = 60.0


@pytest.mark.long
def test_a_role_is_healthy_while_a_process_is_a_member_of_its_group(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    with Deployment(bootstrap, prefix, tmp_path / "data") as deployment:
        done = deployment.command("health", "--json")
        assert (done.returncode, json.loads(done.stdout)) == (
            1,
            {"join": 0, "scorer": 0, "pairs": 0, "traces": 0, "trainer": 0},
        )
        assert done.stderr == (
            "error: no process of join, scorer, pairs, traces, trainer is at work; "
            "tierstream worker --roles join,scorer,pairs,traces and tierstream trainer\n"
        )
        deployment.worker("--roles", "join")
        trainer = deployment.start("trainer")
        deadline = time.monotonic() + WAIT_SECONDS
        while (done := deployment.command("health", "join", "trainer")).returncode:
            trainer.must_run()
            assert time.monotonic() < deadline, deployment.logs()
            time.sleep(0.2)
        assert done.stdout == "join: 1\ntrainer: 1\n"
        trainer.end()
        assert deployment.command("health", "join").returncode == 0
        assert deployment.command("health", "trainer").stderr == (
            "error: no process of trainer is at work; tierstream trainer\n"
        )


def test_a_broker_that_is_not_there_is_one_line() -> None:
    done = command_here(["health"], {"TIERSTREAM_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    assert done.returncode == 1
    assert done.stderr.startswith("error: broker 127.0.0.1:1 cannot be reached; ")
