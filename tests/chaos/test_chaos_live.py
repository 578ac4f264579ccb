"""A short cut of the fault suite, as its user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.config import cache_folder
from schemas.errors import JarsUnavailableError
from schemas.settings import Settings
from streams.broker.jars import kafka_jars

pytestmark = [pytest.mark.live, pytest.mark.timeout(600), pytest.mark.long]

FAULTS = ["SIGKILL of all at once", "a worker paused (zombie)"]


def test_faults_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    try:
        kafka_jars(cache_folder(Settings()), print)
    except JarsUnavailableError as error:
        pytest.skip(f"a broker that can be killed and started on its data is not to be had: {error}")
    figures = tmp_path / "figures.json"
    rounds = [argument for name in FAULTS for argument in ("--fault", name)]
    options = ["--rounds", "2", "--minutes", "20", "--events", "100", "--seed", "5", "--json", str(figures)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *options, *rounds],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert found["problems"] == []
    assert (found["lost"], found["learned_twice"], found["jobs_launched_twice"], found["hung"]) == (0, 0, 0, 0)
    assert found["faults"].keys() == set(FAULTS)
    assert found["signals"]["SIGSTOP to worker"] >= 1
    assert found["signals"]["SIGSTOP to scorer"] >= 1
    effects = found["effects"]
    assert effects["feedbacks learned"] > effects["feedbacks held out"] > 0
    assert min(effects[name] for name in ("pairs", "jobs", "traces", "corrupt")) > 0
    assert "learned twice: 0" in done.stdout
