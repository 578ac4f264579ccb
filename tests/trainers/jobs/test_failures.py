"""Jobs that cannot be done: one clear reason, nothing promoted, the data stay, and a retry works."""

from __future__ import annotations

import errno
import hashlib
import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.trainers.jobs import tiny
from tests.trainers.jobs.running import run
from trainers.jobs import dpo, process, sft
from trainers.jobs.heldout import split
from trainers.jobs.progress import JobCallback

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"), pytest.mark.long]


def failed(folder: Path) -> str:
    """Run a job that must fail for good; return the reason after checking that nothing else happened."""
    data = (folder / "dataset.jsonl").read_bytes()
    code, result = run(folder)
    assert (code, result["state"]) == (1, "failed")
    assert (folder / "dataset.jsonl").read_bytes() == data
    assert not list(folder.parent.parent.glob("models/*/*/version.json"))
    assert not list(folder.parent.parent.glob("models/*/in-use.json"))
    assert "\n" not in result["error"]
    return str(result["error"])


def recovers(folder: Path) -> bool:
    """Retry as `jobs retry` does, without the result of before."""
    (folder / "result.json").unlink()
    return run(folder)[1]["state"] == "finished"


@pytest.fixture
def job(tiny_base, tmp_path) -> Path:
    return tiny.job(tmp_path, "dpo", tiny.pairs(12), tiny.settings(tiny_base, max_steps=2))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data.replace(b"light", b"night", 1), "the job names"),
        (lambda data: b"", "has sha256 e3b0c44298fc and 0 lines"),
        (lambda data: data[: len(data) // 2], "the job names"),
    ],
)
def test_a_changed_empty_or_truncated_dataset_fails_the_job(job, change, reason):
    path = job / "dataset.jsonl"
    whole = path.read_bytes()
    path.write_bytes(change(whole))
    assert reason in failed(job)
    path.write_bytes(whole)
    assert recovers(job)


def test_a_job_whose_examples_all_break_its_rules_fails(job):
    request = json.loads((job / "job.json").read_bytes())
    request["settings"]["rules"]["min_reward_gap"] = 1.9
    (job / "job.json").write_text(json.dumps(request))
    unstamped = [pair.model_copy(update={"chosen_by": None}).to_json() for pair in tiny.pairs(12)]
    data = b"".join(line + b"\n" for line in unstamped)
    (job / "dataset.jsonl").write_bytes(data)
    request["dataset_sha256"] = hashlib.sha256(data).hexdigest()
    (job / "job.json").write_text(json.dumps(request))
    assert "no example" in (reason := failed(job))
    assert "breaks the rule small_gap" in reason


@pytest.mark.parametrize("name", ["/nowhere/model", "no-such-package", "./gone"])
def test_a_base_model_that_is_missing_fails_the_job(tmp_path, name):
    assert f"base model {name!r}: there is no such folder" in failed(
        tiny.job(tmp_path, "dpo", tiny.pairs(12), tiny.settings(name))
    )


def test_a_base_model_that_is_no_model_fails_the_job_until_it_is_one(tiny_base, tmp_path):
    base = tmp_path / "empty"
    base.mkdir()
    folder = tiny.job(tmp_path / "data", "dpo", tiny.pairs(12), tiny.settings(base, max_steps=2))
    assert "holds no config.json" in failed(folder)
    shutil.copytree(tiny_base, base, dirs_exist_ok=True)
    assert recovers(folder)


def test_a_base_model_whose_weights_are_cut_short_fails_the_job_until_they_are_whole(tiny_base, tmp_path):
    base = shutil.copytree(tiny_base, tmp_path / "base")
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    folder = tiny.job(tmp_path / "data", "sft", tiny.traces(12), tiny.settings(base, max_steps=2))
    assert f"base model {base} cannot be loaded: " in failed(folder)
    shutil.copy(tiny_base / "model.safetensors", weights)
    assert recovers(folder)


def test_a_loss_that_is_no_number_fails_the_job(tiny_base, tmp_path):
    base = shutil.copytree(tiny_base, tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], torch.nan)
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    folder = tiny.job(tmp_path / "data", "sft", tiny.traces(12), tiny.settings(base))
    reason = failed(folder)
    assert reason == "the loss became nan at step 1; lower learning_rate, then tierstream jobs retry --new-settings"
    shutil.copy(tiny_base / "model.safetensors", base / "model.safetensors")
    assert recovers(folder)


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("interval", [30.0, 1e-6], ids=["at the end", "in a checkpoint"])
def test_a_full_disk_fails_the_job_and_a_retry_works_once_there_is_space(tiny_base, tmp_path, interval):
    wanted = tiny.settings(tiny_base, checkpoint_interval=interval, max_steps=3)
    folder = tiny.job(tmp_path, "dpo", tiny.pairs(12), wanted)
    with disk_of(10_000):
        reason = failed(folder)
    assert reason == "the disk is full, or a limit on it is reached: free some space, then retry"
    assert not list((tmp_path / "models" / "dpo").glob(".staging-*"))
    assert recovers(folder)


def test_want_of_memory_fails_the_job_and_a_retry_works_once_there_is_enough(job, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(JobCallback, "on_step_end", lambda *_, **__: torch.empty(10**15))
        reason = failed(job)
    assert reason == (
        "out of memory: lower batch_size or max_length or set gradient_checkpointing, "
        "then tierstream jobs retry --new-settings"
    )
    assert recovers(job)


def test_want_of_memory_is_named():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert process.reason_of(caught.value).startswith("out of memory: lower batch_size")
    assert process.reason_of(MemoryError()).startswith("out of memory")
    assert process.reason_of(torch.OutOfMemoryError("CUDA out of memory")).startswith("out of memory")


def test_a_full_disk_is_named_whoever_found_it():
    found = RuntimeError("unexpected pos 64 vs 0")
    found.__context__ = OSError(errno.ENOSPC, "No space left on device")
    assert str(process.reason_of(found)).startswith("the disk is full")


def test_what_nobody_foresaw_is_a_crash():
    assert process.reason_of(RuntimeError("shape mismatch")) is None


def test_what_one_of_several_processes_raises_as_another_has_gone_is_a_crash_and_begun_again():
    with pytest.raises(ValueError, match="process group") as left_alone:
        torch.distributed.barrier()
    assert process.reason_of(left_alone.value) is None


def test_a_job_of_which_everything_is_held_out_says_so(tiny_base, tmp_path):
    held = split(tiny.pairs(40), tiny.ONE_IN).held_out
    assert "are held out" in failed(tiny.job(tmp_path, "dpo", held, tiny.settings(tiny_base)))


def test_a_job_of_the_other_tier_is_refused(tiny_base, tmp_path):
    folder = tiny.job(tmp_path, "sft", tiny.traces(12), tiny.settings(tiny_base))
    assert process.main(dpo.DPO, [str(folder)]) == 1
    assert "is of tier sft, not dpo; run trainers.jobs.sft" in (folder / "result.json").read_text()


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--nonsense"], ["/nowhere/at/all"]])
def test_wrong_usage_is_answered_in_a_line(arguments, capsys):
    assert process.main(dpo.DPO, arguments) == 2
    assert "JOB_DIR" in (said := capsys.readouterr().err) or "is no folder; name a job's" in said


def test_help_says_what_it_does(capsys):
    assert process.main(sft.SFT, ["--help"]) == 0
    assert "usage: python -m trainers.jobs.sft JOB_DIR" in capsys.readouterr().out
