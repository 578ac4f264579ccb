"""Jobs in several processes that train together, on CPUs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from tests.trainers.jobs import tiny
from tests.trainers.jobs.running import run
from trainers.jobs.torchrun import first_failure, world_size
from trainers.versions import VersionStore

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

TOGETHER = """
import sys, trainers.jobs.torchrun as launcher
launcher.world_size = lambda *_: 2
sys.exit(launcher.main(sys.argv[1:]))
"""


def command(folder: Path) -> list[str]:
    return [sys.executable, "-c", TOGETHER, f"trainers.jobs.{folder.name[:3]}", str(folder)]


def progress(output: str) -> list[dict[str, Any]]:
    return [json.loads(line)["metrics"] for line in output.splitlines() if line.startswith("{")]


def weights(folder: Path, result: dict[str, Any]) -> dict[str, torch.Tensor]:
    data_dir = folder.parent.parent
    return load_file(data_dir / "models" / folder.name[:3] / result["version"] / "adapter_model.safetensors")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("tier", ["dpo", "sft"])
def test_two_processes_train_what_one_trains_with_twice_the_passes_and_resume(tiny_base, tmp_path, tier):
    """Killed once, with checkpoints. What two processes see in a step one sees in two passes, within an epoch."""
    examples = tiny.pairs(40) if tier == "dpo" else tiny.traces(40)
    alone = tiny.job(
        tmp_path / "alone", tier, examples, tiny.settings(tiny_base, max_steps=4, batch_size=2, gradient_accumulation=2)
    )
    wanted = tiny.settings(tiny_base, max_steps=4, batch_size=2, gradient_accumulation=1, checkpoint_interval=1e-6)
    folder = tiny.job(tmp_path / "together", tier, examples, wanted)
    with subprocess.Popen(command(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{") and json.loads(line)["metrics"].get("step", 0) >= 2:
                os.kill(process.pid, signal.SIGKILL)
                break
    assert not (folder / "result.json").exists()
    done = subprocess.run(command(folder), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    told = progress(done.stdout)
    assert next(one["resumed_from"] for one in told if one.get("resumed_from")).startswith("checkpoint-")
    steps = [one["step"] for one in told if "step" in one]
    assert steps == list(range(steps[0], steps[0] + len(steps)))  # one process reports
    result = json.loads((folder / "result.json").read_bytes())
    assert [record.version for record in VersionStore(tmp_path / "together").versions("policy")] == [result["version"]]
    code, expected = run(alone)
    assert (code, result["state"]) == (0, "finished")
    assert result["metrics"]["losses"] == pytest.approx(expected["metrics"]["losses"], abs=1e-4)
    together, one = weights(folder, result), weights(alone, expected)
    assert together.keys() == one.keys()
    for name, value in one.items():
        torch.testing.assert_close(together[name], value, atol=2e-3, rtol=0)


def test_a_process_that_fails_alone_says_why(tiny_base, tmp_path, monkeypatch):
    folder = tiny.job(tmp_path, "sft", tiny.traces(12), tiny.settings(tiny_base))
    (folder / "dataset.jsonl").write_bytes(b"")
    monkeypatch.setenv("RANK", "1")
    code, result = run(folder)
    assert (code, result["state"]) == (1, "failed")
    assert "has sha256 e3b0c44298fc and 0 lines" in result["error"]


def failure(exitcode: int, tmp_path: Path, message: str | None = None) -> ChildFailedError:
    path = tmp_path / "error.json"
    if message is not None:
        path.write_text(json.dumps({"message": {"message": message, "extraInfo": {"timestamp": "1"}}}))
    return ChildFailedError("job", {1: ProcessFailure(1, 4711, exitcode, str(path))})


def test_the_first_failure_is_told_in_a_line(tmp_path):
    assert first_failure(failure(1, tmp_path)) == "process 1 ended the others: it failed"
    assert first_failure(failure(-9, tmp_path)) == (
        "process 1 ended the others: Signal 9 (SIGKILL) received by PID 4711"
    )
    assert first_failure(failure(1, tmp_path, "RuntimeError: shapes\ndiffer")) == (
        "process 1 ended the others: RuntimeError: shapes differ"
    )


def test_there_is_a_process_a_gpu_or_as_many_as_cores_and_memory_allow():
    assert world_size(4, 2, 8) == 4
    assert world_size(0, 2, 24) == 2
    assert world_size(0, 16, 9) == 2
    assert world_size(0, 64, 512) == 8
    assert world_size(0, 1, 1) == 1
