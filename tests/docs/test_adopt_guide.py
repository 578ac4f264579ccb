"""docs/adopt.md run as it stands: from an export of Langfuse to a DPO job, of a tiny model, and what it used."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from streams.broker.launch import free_port
from tests.docs.test_guides import DOCS, FENCE, commands
from tests.docs.test_serving_guide import as_it_stands
from tests.trainers.jobs import tiny

JOB_SECONDS = 300.0


@pytest.mark.live
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_guide_to_adoption_runs_as_it_stands(bootstrap: str, prefix: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "BASE_MODEL": str(tiny.build_model(tmp_path / "base")),
        "DOCS": str(DOCS),
        "TIERSTREAM_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "TIERSTREAM_TOPICS__PREFIX": prefix,
        "TIERSTREAM_WEB__PORT": str(free_port()),
        "TIERSTREAM_JOBS__DPO__LEARNING_RATE": "5e-3",
        "TIERSTREAM_JOBS__DPO__MAX_LENGTH": "256",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(DOCS.parent),
    }
    said = {}
    try:
        for language, body in FENCE.findall((DOCS / "adopt.md").read_text()):
            for command, expected, code in commands(body) if language == "console" else ():
                said[command] = as_it_stands(command, expected, code, environment, tmp_path, JOB_SECONDS)
    finally:
        with suppress(ProcessLookupError, FileNotFoundError):
            os.kill(int((tmp_path / "up.pid").read_text()), signal.SIGTERM)
    assert len(said) >= 12
    [folder] = (tmp_path / "data" / "jobs").iterdir()
    pairs = [json.loads(line) for line in (folder / "dataset.jsonl").read_text().splitlines()]
    numbers = [
        [int(pair[f"{side}_experience_id"].rpartition("-")[2]) for side in ("chosen", "rejected")] for pair in pairs
    ]
    assert len(pairs) == 80
    assert all(chosen % 2 == 0 and rejected == chosen + 1 for chosen, rejected in numbers)
    [shown] = [text for command, text in said.items() if command.startswith("tierstream jobs show")]
    assert re.search(r"trained_on +\d+", shown), shown
