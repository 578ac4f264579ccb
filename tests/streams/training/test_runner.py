"""A training job runs once, is retried after a crash, and tells of every state."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from pathlib import Path

import pytest

from schemas.errors import JobError
from schemas.events import JobControl, JobUpdate, ModelVersion, TrainingJob
from streams.training.controls import renewed
from streams.training.folder import Control
from streams.training.launcher import Command
from streams.training.lock import is_held
from streams.training.log import Progress
from streams.training.runner import Attempts, JobRunner, Pace
from tests.streams.training.requests import job

SUCCEED = """
import json, sys, pathlib
folder = pathlib.Path(sys.argv[1])
print(json.dumps({"progress": 0.5, "metrics": {"examples": 1}}), flush=True)
print("some other line", flush=True)
with (folder / "runs").open("a") as runs: runs.write("x")
(folder / "result.json").write_text(json.dumps({"state": "validated", "metrics": {"examples": 2}, "error": None}))
"""
FAIL = """
import json, sys, pathlib
result = {"state": "failed", "metrics": {}, "error": "example 1 breaks a rule"}
(pathlib.Path(sys.argv[1]) / "result.json").write_text(json.dumps(result))
sys.exit(1)
"""
CRASH = """
import os, pathlib, sys
with (pathlib.Path(sys.argv[1]) / "runs").open("a") as runs: runs.write("x")
os.kill(os.getpid(), 9)
"""
CRASH_ONCE = f"""
import pathlib, sys
if not (pathlib.Path(sys.argv[1]) / "runs").exists():
    {CRASH.strip().replace(chr(10), chr(10) + "    ")}
{SUCCEED}
"""


TRIES = Attempts(3, 0.0)


def script(code: str) -> Command:
    return lambda tier, folder: [sys.executable, "-c", code, str(folder)]


def run(data_dir: Path, code: str) -> list[JobUpdate]:
    updates: list[JobUpdate] = []

    async def publish(update: JobUpdate | ModelVersion) -> None:
        assert isinstance(update, JobUpdate)
        updates.append(update)

    asyncio.run(JobRunner(job(), data_dir, script(code), TRIES, publish).run())
    return updates


def told_of(updates: list[JobUpdate]) -> list[tuple[str, int]]:
    """States and attempts in order, without repetitions."""
    pairs = [(update.state, update.attempt) for update in updates]
    return [pair for before, pair in zip([None, *pairs], pairs, strict=False) if pair != before]


def test_job_is_told_of_from_queue_to_result(tmp_path: Path) -> None:
    updates = run(tmp_path, SUCCEED)
    assert told_of(updates) == [("queued", 1), ("running", 1), ("validated", 1)]
    assert [update.progress for update in updates if update.metrics == {"examples": 1}] == [0.5]
    assert (updates[-1].progress, updates[-1].metrics) == (1.0, {"examples": 2})
    folder = tmp_path / "jobs" / "sft-1"
    assert TrainingJob.from_json((folder / "job.json").read_bytes()) == job()
    assert "some other line" in (folder / "log.txt").read_text()


def test_job_that_has_a_result_is_not_run_again(tmp_path: Path) -> None:
    run(tmp_path, SUCCEED)
    again = run(tmp_path, SUCCEED)
    assert told_of(again) == [("validated", 1)]
    assert again[0].metrics == {"examples": 2}
    assert (tmp_path / "jobs" / "sft-1" / "runs").read_text() == "x"


def test_failed_check_is_an_end_state_and_not_retried(tmp_path: Path) -> None:
    updates = run(tmp_path, FAIL)
    assert told_of(updates) == [("queued", 1), ("running", 1), ("failed", 1)]
    assert updates[-1].error == "example 1 breaks a rule"


def test_crashed_job_is_tried_again(tmp_path: Path) -> None:
    updates = run(tmp_path, CRASH_ONCE)
    assert told_of(updates) == [("queued", 1), ("running", 1), ("queued", 2), ("running", 2), ("validated", 2)]
    assert (tmp_path / "jobs" / "sft-1" / "runs").read_text() == "xx"


def test_job_that_keeps_crashing_is_failed_for_good(tmp_path: Path) -> None:
    updates = run(tmp_path, CRASH)
    assert told_of(updates)[-3:] == [("queued", 3), ("running", 3), ("failed", 3)]
    assert updates[-1].error == (
        "the job's process was killed by SIGKILL (as the kernel does where memory runs out)"
        " and left no result on attempt 3"
    )
    assert told_of(run(tmp_path, SUCCEED)) == [("failed", 3)]
    assert (tmp_path / "jobs" / "sft-1" / "runs").read_text() == "xxx"


def test_two_runners_of_one_job_run_it_once(tmp_path: Path) -> None:
    updates: list[JobUpdate] = []

    async def publish(update: JobUpdate | ModelVersion) -> None:
        assert isinstance(update, JobUpdate)
        updates.append(update)

    async def both() -> list[str]:
        runners = [JobRunner(job(), tmp_path, script(SUCCEED), TRIES, publish) for _ in range(2)]
        return list(await asyncio.gather(*(runner.run() for runner in runners)))

    assert asyncio.run(both()) == ["validated", "validated"]
    assert (tmp_path / "jobs" / "sft-1" / "runs").read_text() == "x"


def test_job_is_ended_with_its_trainer_and_starts_again(tmp_path: Path) -> None:
    async def publish(update: JobUpdate | ModelVersion) -> None:
        pass

    async def stop_early() -> None:
        running = asyncio.create_task(
            JobRunner(job(), tmp_path, script("import time; time.sleep(600)"), TRIES, publish).run()
        )
        while not (tmp_path / "jobs" / "sft-1" / "log.txt").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(stop_early())
    assert told_of(run(tmp_path, SUCCEED))[-1] == ("validated", 1)


@pytest.mark.parametrize("name", ["../outside", "a/b", "", "UPPER", "x" * 200])
def test_id_that_is_no_plain_name_is_refused(tmp_path: Path, name: str) -> None:
    async def publish(update: JobUpdate | ModelVersion) -> None:
        pass

    request = job().model_copy(update={"job_id": name})
    with pytest.raises(JobError, match="job id"):
        JobRunner(request, tmp_path, script(SUCCEED), TRIES, publish)
    assert list(tmp_path.iterdir()) == []


SLEEP = """
import pathlib, sys, time
with (pathlib.Path(sys.argv[1]) / "runs").open("a") as runs: runs.write("x")
print('{"progress": 0.25, "metrics": {"step": 1}}', flush=True)
time.sleep(600)
"""


class Told:
    """Keeps what a runner publishes; `until` waits for a state."""

    def __init__(self) -> None:
        self.updates: list[JobUpdate] = []

    async def __call__(self, update: JobUpdate | ModelVersion) -> None:
        assert isinstance(update, JobUpdate)
        self.updates.append(update)

    async def until(self, state: str, progress: float = 0.0) -> None:
        async with asyncio.timeout(30):
            while not any(u.state == state and u.progress >= progress for u in self.updates):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def runner(data_dir: Path, code: str, told: Told, tries: Attempts = TRIES) -> JobRunner:
    return JobRunner(job(), data_dir, script(code), tries, told)


def folder_of(data_dir: Path) -> Path:
    return data_dir / "jobs" / "sft-1"


def test_job_that_is_cancelled_while_it_runs_is_ended(tmp_path: Path) -> None:
    told = Told()

    async def cancel() -> str:
        running = asyncio.create_task(runner(tmp_path, SLEEP, told).run())
        await told.until("running", 0.25)
        Control(7, "cancel").write(folder_of(tmp_path))
        return await running

    assert asyncio.run(cancel()) == "cancelled"
    assert told.updates[-1].error == "cancelled on request"
    assert not is_held(folder_of(tmp_path))


def test_job_that_is_cancelled_before_its_turn_never_starts(tmp_path: Path) -> None:
    Control(7, "cancel").write(folder_of(tmp_path))
    assert asyncio.run(runner(tmp_path, SLEEP, Told()).run()) == "cancelled"
    assert not (folder_of(tmp_path) / "runs").exists()


def test_job_that_outlived_its_trainer_is_ended_by_the_next_one(tmp_path: Path) -> None:
    """The lock is held by the job's process alone, as after a SIGKILL of its trainer."""
    told = Told()

    async def cancel() -> str:
        first = asyncio.create_task(runner(tmp_path, SLEEP, Told()).run())
        while not (folder_of(tmp_path) / "runs").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        second = asyncio.create_task(runner(tmp_path, SUCCEED, told).run())
        await asyncio.sleep(0.1)
        Control(7, "cancel").write(folder_of(tmp_path))
        await first
        return await second

    assert asyncio.run(cancel()) == "cancelled"
    assert (folder_of(tmp_path) / "runs").read_text() == "x"


def test_failed_job_is_run_again_once_by_a_retry_and_keeps_its_log(tmp_path: Path) -> None:
    run(tmp_path, FAIL)
    assert asyncio.run(runner(tmp_path, SUCCEED, Told()).run(retry=9)) == "validated"
    told = Told()
    assert asyncio.run(runner(tmp_path, SUCCEED, told).run(retry=9)) == "validated"
    assert [update.state for update in told.updates] == ["validated"]
    assert (folder_of(tmp_path) / "runs").read_text() == "x"
    assert (folder_of(tmp_path) / "log.txt").read_text().count("--- attempt 1 at ") == 2


def test_retry_with_other_settings_is_run_with_these_from_the_start_and_keeps_them(tmp_path: Path) -> None:
    run(tmp_path, FAIL)
    (folder_of(tmp_path) / "checkpoints").mkdir()
    control = JobControl(
        job_id="sft-1", action="retry", requested_at=0, base_model="/models/other", settings={"training": {"epochs": 2}}
    )
    wanted = renewed(job(), control)
    assert (wanted.base_model, wanted.settings) == ("/models/other", {"training": {"epochs": 2}})
    assert asyncio.run(runner(tmp_path, SUCCEED, Told()).run(9, wanted)) == "validated"
    assert not (folder_of(tmp_path) / "checkpoints").exists()
    # The request comes again, as after a rebalance, and so does the control, when the job has ended.
    run(tmp_path, SUCCEED)
    asyncio.run(runner(tmp_path, SUCCEED, Told()).run(9, job()))
    assert TrainingJob.from_json((folder_of(tmp_path) / "job.json").read_bytes()) == wanted
    assert (folder_of(tmp_path) / "runs").read_text() == "x"


def test_retry_keeps_settings_and_checkpoints_where_it_names_no_others(tmp_path: Path) -> None:
    run(tmp_path, FAIL)
    (folder_of(tmp_path) / "checkpoints").mkdir()
    again = renewed(job(), JobControl(job_id="sft-1", action="retry", requested_at=0))
    assert asyncio.run(runner(tmp_path, SUCCEED, Told()).run(9, again)) == "validated"
    assert (folder_of(tmp_path) / "checkpoints").is_dir()
    assert TrainingJob.from_json((folder_of(tmp_path) / "job.json").read_bytes()) == job()


def test_cancelled_job_is_run_again_by_a_later_retry_but_not_by_an_earlier_one(tmp_path: Path) -> None:
    Control(7, "cancel").write(folder_of(tmp_path))
    assert asyncio.run(runner(tmp_path, SUCCEED, Told()).run(retry=6)) == "cancelled"
    assert asyncio.run(runner(tmp_path, SUCCEED, Told()).run(retry=8)) == "validated"


def test_retried_job_has_all_its_attempts_again(tmp_path: Path) -> None:
    run(tmp_path, CRASH)
    told = Told()
    asyncio.run(runner(tmp_path, CRASH, told).run(retry=9))
    assert [update.attempt for update in told.updates if update.state == "running"] == [1, 2, 3]


def test_finished_job_is_not_run_again_by_a_retry(tmp_path: Path) -> None:
    done = SUCCEED.replace("validated", "finished")
    run(tmp_path, done)
    assert asyncio.run(runner(tmp_path, done, Told()).run(retry=9)) == "finished"
    assert (folder_of(tmp_path) / "runs").read_text() == "x"


def test_process_that_ended_with_its_trainer_counts_as_a_crash(tmp_path: Path) -> None:
    told = Told()

    async def lose() -> None:
        running = asyncio.create_task(runner(tmp_path, SLEEP, told).run())
        await told.until("running", 0.25)
        state = (folder_of(tmp_path) / "state.json").read_bytes()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        # A trainer that is killed does not write down that the job waits.
        (folder_of(tmp_path) / "state.json").write_bytes(state)

    asyncio.run(lose())
    updates = run(tmp_path, SUCCEED)
    assert (updates[0].state, updates[0].attempt) == ("queued", 2)
    assert "ended with the trainer that watched it" in str(updates[0].error)
    assert told_of(updates)[-1] == ("validated", 2)


def test_job_of_a_trainer_that_was_told_to_stop_keeps_its_attempts(tmp_path: Path) -> None:
    told = Told()

    async def stop() -> None:
        running = asyncio.create_task(runner(tmp_path, SLEEP, told).run())
        await told.until("running", 0.25)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(stop())
    assert told_of(run(tmp_path, SUCCEED)) == [("queued", 1), ("running", 1), ("validated", 1)]


def test_crash_says_the_last_words(tmp_path: Path) -> None:
    updates = run(tmp_path, "print('ValueError: no such layer'); raise SystemExit(3)")
    assert updates[-1].error == (
        "the job's process exited with 3 (it last said: ValueError: no such layer) and left no result on attempt 3"
    )


def test_disk_that_is_full_is_told_of_and_a_retry_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    waiting = runner(tmp_path, SUCCEED, Told())
    with monkeypatch.context() as patch:
        patch.setattr("streams.training.runner.write_atomically", no_space)
        with pytest.raises(OSError, match="No space left on device"):
            asyncio.run(waiting.run())
    assert not is_held(folder_of(tmp_path))
    assert asyncio.run(runner(tmp_path, SUCCEED, Told()).run(retry=3)) == "validated"


def test_pauses_double_up_to_the_longest() -> None:
    tries = Attempts(20, 5.0)
    assert [tries.pause_before(attempt) for attempt in (2, 3, 4, 20)] == [5.0, 10.0, 20.0, 600.0]


def test_time_left_follows_from_the_pace_of_this_attempt() -> None:
    now = [100.0]
    pace = Pace(lambda: now[0])
    assert pace.seconds_left(0.5) is None
    pace.told(Progress(0.5))
    now[0] += 10.0
    assert pace.seconds_left(0.75) == 10.0
    now[0] += 5.0
    pace.told(Progress(0.2))
    assert pace.seconds_left(0.2) is None


def test_each_stage_has_its_own_pace() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    pace.told(Progress(0.0, {"stage": "base model"}))
    now[0] += 100.0
    pace.told(Progress(0.1, {"stage": "train"}))
    now[0] += 10.0
    pace.told(Progress(0.2, {"stage": "train"}))
    assert pace.seconds_left(0.2) == 80.0


def test_progress_is_told_at_most_once_a_second() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    assert pace.is_due()
    pace.told(Progress(0.1))
    assert not pace.is_due()
    now[0] += 1.0
    assert pace.is_due()
