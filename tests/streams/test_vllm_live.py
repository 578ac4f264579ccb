"""Promotions with vLLM itself on the CPU, from an environment of its own: `make .venv-vllm/.ready`."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from schemas.errors import ServingError
from schemas.settings import Settings
from schemas.versions import BASES
from streams.broker.launch import free_port
from streams.stack.supervisor import answers
from tests.serve import ask, status_of
from tests.trainers.jobs import tiny
from tests.trainers.jobs.running import run
from trainers import promotion
from trainers.serving import keep_up, refusals
from trainers.versions import VersionStore

VLLM = Path(__file__).parents[2] / ".venv-vllm" / "bin" / "python"
START_SECONDS = 600.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.skipif(not VLLM.exists(), reason="vLLM is not installed: make .venv-vllm/.ready"),
]


@contextmanager
def vllm(base: Path, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run vLLM as docs/serving.md says, until it answers; it is killed in the end, as any server may be."""
    options = ["--enable-lora", "--max-lora-rank", "8", "--served-model-name", *BASES.values()]
    small = ["--dtype", "float32", "--max-model-len", "256", "--enforce-eager", "--max-num-seqs", "4"]
    variables = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            # `vllm serve` itself looks for a package of another name than the one for the CPU.
            [
                VLLM,
                "-m",
                "vllm.entrypoints.openai.api_server",
                "--model",
                str(base),
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                *options,
                *small,
            ],
            env={**os.environ, **variables},
            stdout=output,
            stderr=output,
            process_group=0,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
            time.sleep(0.5)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_vllm_follows_promotions_and_rollbacks_byte_for_byte_also_after_it_was_killed(tmp_path: Path) -> None:
    # vLLM's attention on the CPU knows heads of 32 and more.
    base = tiny.build_model(tmp_path / "base", hidden_size=64, num_attention_heads=2, num_key_value_heads=1)
    data_dir, port = tmp_path / "data", free_port()
    first, second = (
        run(tiny.job(data_dir, "sft", tiny.traces(40, start=40 * seed), tiny.settings(base, seed=seed, epochs=3)))[1][
            "version"
        ]
        for seed in range(2)
    )
    store, url = VersionStore(data_dir), f"http://127.0.0.1:{port}"
    (data_dir / "models" / "policy" / "in-use.json").unlink(missing_ok=True)
    has = Settings.model_validate(
        {**tiny.settings(base).model_dump(), "data_dir": str(data_dir), "serving": {"url": url}}
    )
    with vllm(base, port, tmp_path / "vllm.log"):
        said = {"policy-base": ask(url, "policy-base")}
        for version in (first, second):
            began = time.monotonic()
            promotion.promote(has, version, "better")
            print(f"loaded, asked and switched in {time.monotonic() - began:.1f} s")
            said[version] = ask(url, version)
        assert len({words for _, words in said.values()}) == 3, said
        for version in (first, "policy-base"):
            assert promotion.rollback(has, "policy").version == version
            assert ask(url, version) == said[version]
        promotion.promote(has, first, "again")
    with pytest.raises(ServingError, match="cannot be asked at /v1/load_lora_adapter"):
        promotion.promote(has, second, "better")
    assert store.in_use("policy").version == first
    assert refusals(data_dir)["policy"].version == second
    with vllm(base, port, tmp_path / "vllm.log"):
        question = {"model": first, "messages": [{"role": "user", "content": "?"}]}
        assert status_of(f"{url}/v1/chat/completions", question)[0] == 404  # it has lost what it was given
        keep_up(has.serving, store)
        assert ask(url, first) == said[first]
        promotion.promote(has, second, "better")
        assert ask(url, second) == said[second]
    assert refusals(data_dir) == {}
