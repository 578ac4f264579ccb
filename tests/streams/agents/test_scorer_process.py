"""The scorer in a process of its own: what reaches it, and how the two processes end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from schemas.config import load
from schemas.errors import TierstreamError
from schemas.settings import Settings
from streams.agents.scorer_process import ScorerProcess
from streams.metrics import Metrics
from tests.live import Deployment
from tests.streams.test_stream_live import checkpointed, experience, feedback, of_feedback, replayed_weights
from trainers.scorer.checkpoint import CheckpointStore
from trainers.scorer.learner import OnlineLearner


def wait_for_end(pid: int, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the process goes on"
        time.sleep(0.05)


def scorer_of(worker_pid: int) -> psutil.Process:
    [child] = [c for c in psutil.Process(worker_pid).children() if "streams.agents.scorer_desk" in c.cmdline()]
    return child


def test_it_works_with_the_settings_of_the_worker_and_tells_no_secret_to_others(tmp_path: Path) -> None:
    flags = {"data_dir": str(tmp_path), "kafka.sasl_password": "hush-hush", "scorer.rank": "8"}
    settings = load(None, {}, flags).settings
    process = ScorerProcess(settings, Metrics())
    try:
        process.check_architecture()
        seen = psutil.Process(process.pid)
        assert "hush-hush" not in " ".join([*seen.cmdline(), *seen.environ().values()])
    finally:
        process.close()


def test_a_checkpoint_of_another_rank_is_refused_with_both_named(tmp_path: Path) -> None:
    of_rank_8 = Settings.model_validate({"data_dir": str(tmp_path), "scorer": {"rank": 8}})
    CheckpointStore(tmp_path / "scorer", of_rank_8.scorer).save(OnlineLearner(of_rank_8.scorer).snapshot(1, 0))
    process = ScorerProcess(Settings.model_validate({"data_dir": str(tmp_path)}), Metrics())
    with pytest.raises(TierstreamError, match=r"(?s)rank 8.*rank 32"):
        process.check_architecture()
    process.close()


def test_a_scorer_that_ends_while_it_starts_is_told_in_a_line(tmp_path: Path) -> None:
    process = ScorerProcess(Settings(data_dir=str(tmp_path)), Metrics())
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(TierstreamError, match="the scorer's process ended while it started"):
        process.check_architecture()
    process.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with the one that started it")
def test_a_scorer_that_is_paused_ends_with_its_worker(tmp_path: Path) -> None:
    code = f"""
import signal
from schemas.settings import Settings
from streams.agents.scorer_process import ScorerProcess
from streams.metrics import Metrics
process = ScorerProcess(Settings(data_dir={str(tmp_path)!r}), Metrics())
process.check_architecture()
print(process.pid, flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        scorer = int(worker.stdout.readline())
        os.kill(scorer, signal.SIGSTOP)
        worker.kill()
    try:
        wait_for_end(scorer)  # or it would keep the store of features from the next worker
    finally:
        if psutil.pid_exists(scorer):
            os.kill(scorer, signal.SIGKILL)


def test_the_workers_own_process_does_without_torch() -> None:
    modules = "streams.worker, streams.app, streams.web, streams.legacy, streams.agents.scorer_process"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_a_worker_without_a_broker_says_one_line_and_its_scorer_none(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streams.cli", "worker", "--bootstrap-servers", "127.0.0.1:1"]
    ended = subprocess.run(
        [*command, "--data-dir", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: broker 127.0.0.1:1 cannot be reached")
    assert ended.stderr.count("\n") == 1  # both processes have ended: the pipe is at its end


@pytest.mark.live
def test_worker_and_scorer_end_together_and_every_feedback_is_learned_once(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    with Deployment(bootstrap, prefix, tmp_path / "d", scorer={"checkpoint_every_steps": 2}) as stream:
        worker = stream.worker()
        stream.publish("experiences", [experience(n) for n in range(120)])
        stream.publish("feedback", [feedback(n) for n in range(60)])
        stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= 20)
        worker.expected_to_run = False
        scorer_of(worker.popen.pid).kill()
        assert worker.popen.wait(30) == 70  # ends by itself, nothing acknowledged: a supervisor starts it again
        assert "the other process has ended" in worker.log.read_text()

        worker = stream.worker()
        stream.publish("feedback", [feedback(n) for n in range(60, 120)])
        stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= 90)
        scorer = scorer_of(worker.popen.pid).pid
        worker.kill()
        wait_for_end(scorer)

        worker = stream.worker()
        stream.wait_for("score-updates", lambda values: len(of_feedback(values)) >= 120)
        scorer = scorer_of(worker.popen.pid).pid
        os.kill(scorer, signal.SIGTERM)  # as a terminal or a service manager tells the whole group
        assert worker.end() == 0
        wait_for_end(scorer)
        learner = checkpointed(stream)
        assert (learner.weights_hash(), learner.step) == replayed_weights(stream)
        assert learner.life.groups_learned + learner.life.groups_held_out == 120
