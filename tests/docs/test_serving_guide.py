"""docs/serving.md run as it stands, against a deployment that has trained a version of a tiny model."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from streams.broker.launch import free_port
from tests.docs.test_guides import DOCS, FENCE, SLEEP, behaves, commands
from tests.docs.test_guides import run as shell
from tests.trainers.jobs import tiny
from tests.trainers.jobs.running import run

WAIT_SECONDS = 120.0


@pytest.mark.live
@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_guide_to_serving_runs_as_it_stands(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    base, port = tiny.build_model(tmp_path / "base"), str(free_port())
    _, result = run(tiny.job(tmp_path / "data", "sft", tiny.traces(40), tiny.settings(base)))
    environment = {
        **os.environ,
        "TIERSTREAM_JOBS__BASE_MODEL": str(base),
        "TIERSTREAM_DATA_DIR": str(tmp_path / "data"),
        "TIERSTREAM_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "TIERSTREAM_TOPICS__PREFIX": prefix,
        "TIERSTREAM_JOBS__SFT__LORA_RANK": "4",
        "TIERSTREAM_JOBS__DPO__LORA_RANK": "4",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(DOCS.parent),
        "VERSION": result["version"],
    }
    shell(["tierstream", "topics", "--create"], environment, tmp_path)
    shell(["tierstream", "models", "rollback", "policy"], environment, tmp_path)
    done = []
    try:
        for language, body in FENCE.findall((DOCS / "serving.md").read_text()):
            for command, expected, code in commands(body) if language == "console" else ():
                done.append(as_it_stands(re.sub(r"\b8000\b", port, command), expected, code, environment, tmp_path))
    finally:
        with suppress(ProcessLookupError, FileNotFoundError):
            os.kill(int((tmp_path / "serve.pid").read_text()), signal.SIGKILL)
    assert len(done) >= 6
    assert (tmp_path / "my-model" / "model.safetensors").exists()


def as_it_stands(
    command: str, expected: str, code: int, environment: dict[str, str], folder: Path, seconds: float = WAIT_SECONDS
) -> str:
    """Run a command; where a reader is told to wait a few seconds, what should then be there is waited for."""
    waits, began = SLEEP.match(command), time.monotonic()
    command = command[waits.end() :] if waits else command
    while not behaves(said := shell(["bash", "-c", command], environment, folder), expected, code):
        assert waits, (command, expected, said)
        assert time.monotonic() - began < seconds, (command, expected, said)
        time.sleep(0.5)
    return said.stdout
