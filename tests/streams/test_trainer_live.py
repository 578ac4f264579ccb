"""The trainer on a real broker: each job once, whatever is repeated or killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaProducer

from schemas.events import DeadLetter, JobUpdate, ModelVersion, TrainingJob
from schemas.settings import Settings
from streams.kafka.options import client_options
from tests.serving_peer import ServingPeer
from tests.streams.training_live import (
    Trainer,
    committed,
    control,
    live_settings,
    make_job,
    records,
    request,
    step_of,
    updates,
    wait_for,
)
from tests.trainers.jobs import tiny
from trainers.versions import VersionStore

pytestmark = pytest.mark.live

SLOW_JOB = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
with (folder / "runs").open("a") as runs: runs.write("x")
time.sleep(2)
(folder / "result.json").write_text(json.dumps({"state": "validated", "metrics": {}, "error": None}))
"""
QUICK_JOB = SLOW_JOB.replace("sleep(2)", "sleep(0)")


@pytest.fixture
def settings(bootstrap: str, prefix: str, tmp_path: Path) -> Settings:
    return live_settings(bootstrap, prefix, tmp_path)


def test_repeated_requests_run_each_job_once(settings: Settings) -> None:
    jobs = [make_job(settings, number) for number in range(3)]
    with Trainer(settings, QUICK_JOB):
        request(settings, *jobs, *jobs, jobs[0])
        wait_for(lambda: committed(settings) == 7)
    for job in jobs:
        assert (Path(settings.data_dir) / "jobs" / job.job_id / "runs").read_text() == "x"
    final = [name for name, state in updates(settings) if state == "validated"]
    assert sorted(final) == sorted([*(job.job_id for job in jobs)] * 2 + [jobs[0].job_id])


def test_job_of_a_killed_trainer_is_finished_by_the_next_and_run_once(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    settings = live_settings(bootstrap, prefix, tmp_path, session_timeout=2.0)
    job = make_job(settings, 1)
    folder = Path(settings.data_dir) / "jobs" / job.job_id
    request(settings, job)
    with Trainer(settings, SLOW_JOB) as process:
        wait_for(lambda: (folder / "runs").exists())
        process.send_signal(signal.SIGKILL)
    assert committed(settings) is None
    with Trainer(settings, SLOW_JOB):
        wait_for(lambda: committed(settings) == 1)
    assert (folder / "runs").read_text() == "x"
    assert [state for _, state in updates(settings)][-1] == "validated"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_failed_job_is_retried_once_the_cause_is_gone_with_other_settings_if_need_be(
    settings: Settings, tmp_path: Path
) -> None:
    """The real processes on a tiny model: first the dataset is bad, then the base model that was set is missing."""
    base = tiny.build_model(tmp_path / "base")
    wanted = settings.model_copy(update={"jobs": tiny.settings("/nowhere", max_steps=2).jobs})
    bad = TrainingJob.from_json((tiny.job(tmp_path, "sft", tiny.traces(12), wanted) / "job.json").read_bytes())
    dataset = tmp_path / bad.dataset_path
    whole = dataset.read_bytes()
    dataset.write_bytes(b"{}\n")
    request(settings, bad)

    def last() -> JobUpdate:
        return JobUpdate.from_json(records(settings, "job-updates")[-1])

    with Trainer(settings) as process:
        wait_for(lambda: committed(settings) == 1)
        assert last().state == "failed"
        assert "has sha256 ca3d163bab05 and 1 lines" in str(last().error)
        assert dataset.read_bytes() == b"{}\n"
        dataset.write_bytes(whole)
        control(settings, bad.job_id, "retry")
        wait_for(lambda: committed(settings) == 2)
        assert last().state == "failed"
        assert last().error == (
            "base model '/nowhere': there is no such folder; "
            "set jobs.base_model to one that exists, then tierstream jobs retry --new-settings"
        )
        said = retry_with_new_settings(settings, bad.job_id, base)
        assert f"base_model: {base}, was /nowhere" in said
        assert "training.max_steps: 3, was 2" in said
        wait_for(lambda: committed(settings) == 3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert (last().state, last().metrics["steps"]) == ("finished", 3)
    assert dataset.read_bytes() == whole
    promoted = [ModelVersion.from_json(value) for value in records(settings, "model-versions")]
    assert [one.version for one in promoted] == ([last().metrics["version"]] if last().metrics["promoted"] else [])


def retry_with_new_settings(settings: Settings, job_id: str, base: Path) -> list[str]:
    variables = {
        "TIERSTREAM_TOPICS__PREFIX": settings.topics.prefix,
        "TIERSTREAM_JOBS__BASE_MODEL": str(base),
        "TIERSTREAM_JOBS__SFT__MAX_STEPS": "3",
        "TIERSTREAM_JOBS__SFT__MAX_LENGTH": "128",
        "TIERSTREAM_JOBS__GATE__HELD_OUT_ONE_IN": "4",
    }
    flags = ["--data-dir", settings.data_dir, "--bootstrap-servers", settings.kafka.bootstrap_servers]
    command = [sys.executable, "-m", "streams.cli", "jobs", "retry", job_id, "--new-settings", *flags]
    return subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_job_is_cancelled_while_it_runs_and_the_trainer_goes_on(settings: Settings) -> None:
    long, short = make_job(settings, 1), make_job(settings, 2)
    request(settings, long, short)
    folder = Path(settings.data_dir) / "jobs" / long.job_id
    program = SLOW_JOB.replace("sleep(2)", f"sleep(600 if folder.name == {long.job_id!r} else 0)")
    with Trainer(settings, program):
        wait_for(lambda: (folder / "runs").exists())
        control(settings, long.job_id, "cancel")
        wait_for(lambda: committed(settings) == 3)
    ends = dict(updates(settings))
    assert ends == {long.job_id: "cancelled", short.job_id: "validated"}


def test_control_of_a_job_that_nobody_requested_is_set_aside(settings: Settings) -> None:
    control(settings, "dpo-1", "cancel")
    with Trainer(settings, QUICK_JOB):
        wait_for(lambda: committed(settings) == 1)
    letters = [DeadLetter.from_json(value) for value in records(settings, "dead-letters")]
    assert [letter.error_type for letter in letters] == ["unknown_job"]


KILLED_STEPS = 150


def result_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_bytes())
    return found


def runner(folder: Path) -> int | None:
    """The process that runs the job; none between two tries, when the lock names nobody."""
    try:
        return int(json.loads((folder / "lock").read_bytes())["pid"])
    except (FileNotFoundError, ValueError):
        return None


def signal_job(folder: Path, number: signal.Signals) -> int | None:
    """Send a signal to the job's process and what it has started, and return it; it may have ended, which is told."""
    pid = runner(folder)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.killpg(pid, number)
    return pid


def follows(process: subprocess.Popen[bytes], folder: Path) -> bool:
    """Whether a trainer waits for the job's lock, or has it."""
    return any(Path(file.path) == folder / "lock" for file in psutil.Process(process.pid).open_files())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_job_killed_then_its_trainer_then_both_trains_every_step_once(settings: Settings, tmp_path: Path) -> None:
    base = tiny.build_model(tmp_path / "base")
    training = tiny.settings(base, max_steps=KILLED_STEPS, batch_size=1, checkpoint_interval=0.001).jobs
    wanted = settings.model_copy(update={"jobs": training})
    undisturbed = tiny.job(tmp_path / "undisturbed", "sft", tiny.traces(12), wanted)
    folder = tiny.job(tmp_path, "sft", tiny.traces(12), wanted)
    job_id = folder.name
    request(settings, TrainingJob.from_json((folder / "job.json").read_bytes()))
    seed = time.time_ns() % 10**6
    print(f"seed {seed}")
    steps = random.Random(seed)
    kill_at = [steps.randint(3, 12), steps.randint(15, 25), steps.randint(30, 45)]

    with Trainer(settings) as process:
        wait_for(lambda: step_of(folder) >= kill_at[0])
        killed = signal_job(folder, signal.SIGKILL)
        # The job may have gone beyond that step before it was killed: it is the next try that does it again.
        wait_for(lambda: runner(folder) not in (None, killed) and step_of(folder) >= kill_at[1])
        process.kill()
        # Held until the next trainer has come, so that both are there to be killed.
        signal_job(folder, signal.SIGSTOP)
    with Trainer(settings) as process:
        wait_for(lambda: follows(process, folder))
        signal_job(folder, signal.SIGCONT)
        wait_for(lambda: step_of(folder) >= kill_at[2])
        process.kill()
        signal_job(folder, signal.SIGKILL)
    assert not (folder / "result.json").exists()
    with Trainer(settings):
        wait_for(lambda: committed(settings) == 1)

    subprocess.run([sys.executable, "-m", "trainers.jobs.sft", str(undisturbed)], stdout=subprocess.DEVNULL, check=True)
    told = [JobUpdate.from_json(value) for value in records(settings, "job-updates")]
    ends = [update for update in told if update.state in ("finished", "failed", "cancelled")]
    # At least once: a trainer that could not commit after it had told of the end tells of it again.
    assert {(end.job_id, end.state, end.attempt) for end in ends} == {(job_id, "finished", 3)}
    versions = [record.version for record in VersionStore(tmp_path).versions("policy")]
    assert [end.metrics["version"] for end in ends] == versions * len(ends)
    assert len(versions) == 1
    losses = result_of(folder)["metrics"]["losses"]
    assert len(losses) == KILLED_STEPS
    assert losses == result_of(undisturbed)["metrics"]["losses"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trainer_killed_while_the_server_is_asked_leaves_the_switch_to_the_next(
    settings: Settings, tmp_path: Path
) -> None:
    wanted = settings.model_copy(update={"jobs": tiny.settings(tiny.build_model(tmp_path / "base")).jobs})
    folder, store = tiny.job(tmp_path, "sft", tiny.traces(40), wanted), VersionStore(tmp_path)
    request(settings, TrainingJob.from_json((folder / "job.json").read_bytes()))
    with ServingPeer() as server:
        server.hold.clear()
        with Trainer(settings, TIERSTREAM_SERVING__URL=server.url) as process:
            wait_for(server.waits.is_set)
            process.kill()
            signal_job(folder, signal.SIGKILL)
        [version] = server.loaded
        assert store.in_use("policy").history == ()
        assert records(settings, "model-versions") == []
        server.hold.set()
        with Trainer(settings, TIERSTREAM_SERVING__URL=server.url):
            wait_for(lambda: committed(settings) == 1)
            assert store.in_use("policy").version == version
            server.loaded.clear()  # as one that was started again
            wait_for(lambda: list(server.loaded) == [version])
    [told] = [ModelVersion.from_json(value) for value in records(settings, "model-versions")]
    assert told.version == version


def test_what_is_no_job_is_set_aside_and_passed(settings: Settings) -> None:
    job = make_job(settings, 1)
    unsafe = job.model_copy(update={"job_id": "../outside"})

    async def send() -> None:
        producer = AIOKafkaProducer(**client_options(settings))
        await producer.start()
        await producer.send_and_wait(settings.topic("training-jobs"), b"{oops", key=b"k")
        await producer.stop()

    asyncio.run(send())
    request(settings, unsafe, job)
    with Trainer(settings, QUICK_JOB):
        wait_for(lambda: committed(settings) == 3)
    letters = [DeadLetter.from_json(value) for value in records(settings, "dead-letters")]
    assert [(letter.offset, letter.error_type) for letter in letters] == [(0, "invalid_json"), (1, "unsafe_job_id")]
    assert not (Path(settings.data_dir) / "outside").exists()
    assert updates(settings)[-1] == (job.job_id, "validated")
