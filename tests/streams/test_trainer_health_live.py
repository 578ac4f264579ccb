"""The trainer's health check against a broker."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from streams.training.health import count_trainers, main
from tests.live import Deployment

pytestmark = pytest.mark.live

WAIT_SECONDS = 60.0


def test_a_trainer_is_healthy_while_it_is_a_member_of_its_group(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    with Deployment(bootstrap, prefix, tmp_path / "data") as deployment:
        environment = {"TIERSTREAM_KAFKA__BOOTSTRAP_SERVERS": bootstrap, "TIERSTREAM_TOPICS__PREFIX": prefix}
        assert main(environment) == 1
        trainer = deployment.start("trainer")
        deadline = time.monotonic() + WAIT_SECONDS
        while asyncio.run(count_trainers(deployment.settings)) < 1:
            trainer.must_run()
            assert time.monotonic() < deadline, deployment.logs()
            time.sleep(0.2)
        assert main(environment) == 0
        trainer.end()
        assert main(environment) == 1


def test_a_broker_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main({"TIERSTREAM_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}) == 1
    assert capsys.readouterr().err.startswith("error: broker 127.0.0.1:1 cannot be reached; ")
