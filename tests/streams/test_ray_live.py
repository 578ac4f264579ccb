"""Jobs on a real Ray cluster of one node, through the trainer and a real broker."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from schemas.events import JobUpdate, TrainingJob
from schemas.settings import Settings
from streams.broker.launch import free_port
from streams.training.ray_job import FOLDER
from tests.streams.training_live import (
    Trainer,
    committed,
    control,
    live_settings,
    records,
    request,
    step_of,
    wait_for,
)
from tests.trainers.jobs import tiny
from trainers.versions import VersionStore

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: it is the extra `ray`"),
    # Of Ray's client, which this process uses to look at what the trainer has submitted.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """The address of a Ray head on loopback; with a short folder, since its sockets' paths are bounded."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--disable-usage-stats"]
        command += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}"]
        command += [f"--port={free_port()}", f"--dashboard-agent-listen-port={free_port()}", "--num-cpus=2"]
        command += ["--object-store-memory=100000000", f"--temp-dir={folder}"]
        with (Path(folder) / "head.log").open("wb") as log:
            head = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                # Without this Ray takes the machine's own address for 127.0.0.1.
                env={**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"},
            )
        try:
            wait_for(lambda: head.poll() is not None or _answers(f"http://127.0.0.1:{port}"))
            assert head.poll() is None, (Path(folder) / "head.log").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            family = [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]
            head.terminate()
            head.wait(60)
            for process in psutil.wait_procs(family, 20)[1]:
                process.kill()


def _answers(address: str) -> bool:
    try:
        client(address).list_jobs()
    except (ConnectionError, RuntimeError):
        return False
    return True


def client(address: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    return JobSubmissionClient(address)


def submissions(address: str, folder: Path) -> list[str]:
    """Return the states of what was submitted for a job, the oldest first."""
    found = [one for one in client(address).list_jobs() if (one.metadata or {}).get(FOLDER) == str(folder)]
    return [str(one.status) for one in sorted(found, key=lambda one: str(one.submission_id))]


@pytest.fixture
def settings(bootstrap: str, prefix: str, tmp_path: Path) -> Settings:
    return live_settings(bootstrap, prefix, tmp_path)


def trainer(settings: Settings, address: str) -> Trainer:
    return Trainer(settings, TIERSTREAM_JOBS__LAUNCHER="ray", TIERSTREAM_JOBS__RAY_ADDRESS=address)


def make(settings: Settings, tmp_path: Path, tier: Any, **training: object) -> Path:
    base = tiny.build_model(tmp_path / "base")
    wanted = settings.model_copy(update={"jobs": tiny.settings(base, **training).jobs})
    folder = tiny.job(tmp_path, tier, tiny.pairs(24) if tier == "dpo" else tiny.traces(24), wanted)
    request(settings, TrainingJob.from_json((folder / "job.json").read_bytes()))
    return folder


def told(settings: Settings) -> list[JobUpdate]:
    return [JobUpdate.from_json(value) for value in records(settings, "job-updates")]


def job_process(folder: Path) -> psutil.Process:
    """Return the process in which Ray runs the job."""
    module = f"trainers.jobs.{folder.name[:3]}"
    running = [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"]]
    return next(one for one in running if one.info["cmdline"][1:] == ["-m", module, str(folder)])


def test_a_job_is_trained_on_the_cluster_and_its_log_and_progress_come_back(settings, tmp_path, ray_address):
    folder = make(settings, tmp_path, "dpo", max_steps=40)
    with trainer(settings, ray_address):
        wait_for(lambda: committed(settings) == 1)
    updates = told(settings)
    assert (updates[-1].state, updates[-1].attempt) == ("finished", 1)
    assert any(update.state == "running" and "step" in update.metrics for update in updates)
    assert [one.version for one in VersionStore(tmp_path).versions("policy")] == [updates[-1].metrics["version"]]
    assert submissions(ray_address, folder) == ["SUCCEEDED"]
    log = (folder / "log.txt").read_text()
    assert '"stage": "gate"' in log
    assert "is SUCCEEDED" in log


def test_a_cancelled_job_is_stopped_on_the_cluster(settings, tmp_path, ray_address):
    folder = make(settings, tmp_path, "sft", max_steps=100_000)
    with trainer(settings, ray_address):
        wait_for(lambda: step_of(folder) >= 2)
        process = job_process(folder)
        control(settings, folder.name, "cancel")
        wait_for(lambda: committed(settings) == 2)
    assert told(settings)[-1].state == "cancelled"
    assert submissions(ray_address, folder) == ["STOPPED"]
    assert not process.is_running()


def test_a_job_goes_on_where_its_trainer_is_killed_and_is_followed_and_resumed(settings, tmp_path, ray_address):
    """First trainer and follower are killed, then the job's own process on the cluster."""
    folder = make(settings, tmp_path, "sft", max_steps=60, checkpoint_interval=0.001)
    with trainer(settings, ray_address) as process:
        wait_for(lambda: step_of(folder) >= 3)
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        # The job is held, so that it is there when the next trainer comes.
        held = job_process(folder)
        held.suspend()
        for one in family:
            one.kill()
    with trainer(settings, ray_address):
        wait_for(lambda: (folder / "log.txt").read_text().count("--- attempt ") == 2)
        time.sleep(3)
        assert submissions(ray_address, folder) == ["RUNNING"]
        held.resume()
        seen = step_of(folder)
        wait_for(lambda: step_of(folder) > seen)
        os.kill(held.pid, signal.SIGKILL)
        wait_for(lambda: committed(settings) == 1)
    assert submissions(ray_address, folder) == ["FAILED", "SUCCEEDED"]
    last = told(settings)[-1]
    assert (last.state, last.attempt, last.metrics["steps"]) == ("finished", 3, 60)
    assert '"resumed_from": "checkpoint-' in (folder / "log.txt").read_text()
