"""A job in several processes on CPUs, through the trainer and a real broker."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from schemas.events import JobUpdate, TrainingJob
from schemas.settings import Settings
from streams.training.log import parse_progress
from tests.streams.training_live import Trainer, committed, live_settings, records, request, step_of, wait_for
from tests.trainers.jobs import tiny
from trainers.versions import VersionStore

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 40


@pytest.fixture
def settings(bootstrap: str, prefix: str, tmp_path: Path) -> Settings:
    return live_settings(bootstrap, prefix, tmp_path)


def ranks(trainer: int) -> list[psutil.Process]:
    family = psutil.Process(trainer).children(recursive=True)
    return [one for one in family if "trainers.jobs.rank" in one.cmdline()]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="torchrun starts a process a core: here is one core")
def test_a_job_of_several_processes_is_finished_once_though_one_of_them_is_killed(settings, tmp_path):
    base = tiny.build_model(tmp_path / "base")
    training = tiny.settings(base, max_steps=STEPS, batch_size=1, checkpoint_interval=0.001).jobs
    folder = tiny.job(tmp_path, "sft", tiny.traces(24), settings.model_copy(update={"jobs": training}))
    request(settings, TrainingJob.from_json((folder / "job.json").read_bytes()))
    with Trainer(settings, TIERSTREAM_JOBS__LAUNCHER="torchrun") as process:
        wait_for(lambda: step_of(folder) >= 3)
        together = ranks(process.pid)
        assert len(together) >= 2
        os.kill(together[1].pid, signal.SIGKILL)
        wait_for(lambda: committed(settings) == 1)
        assert not any(one.is_running() for one in together)
    told = [JobUpdate.from_json(value) for value in records(settings, "job-updates")]
    last = told[-1]
    assert (last.state, last.attempt, last.metrics["steps"]) == ("finished", 2, STEPS)
    assert any("ended the others: Signal 9 (SIGKILL)" in str(update.error) for update in told)
    assert {update.metrics["version"] for update in told if update.state == "finished"} == {
        record.version for record in VersionStore(tmp_path).versions("policy")
    }
    log = (folder / "log.txt").read_bytes()
    assert f"{len(together)} processes train together" in log.decode()
    after = log.split(b"--- attempt 2")[1].splitlines()
    steps = [found.metrics["step"] for line in after if (found := parse_progress(line)) and "step" in found.metrics]
    assert steps == list(range(steps[0], STEPS + 1))  # it resumed, and one process reports
    assert steps[0] > 1
