"""`tierstream demo` as a user runs it, small."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from tests.trainers.jobs.tiny import build_model

pytestmark = [pytest.mark.live, pytest.mark.long]

SMALL = {
    "TIERSTREAM_PAIRS__THRESHOLD": "8",
    "TIERSTREAM_TRACES__THRESHOLD": "12",
    "TIERSTREAM_SCORER__RANK": "8",
    "TIERSTREAM_DEMO__DPO_STEPS": "2",
    "TIERSTREAM_DEMO__SFT_STEPS": "2",
    # Of eight pairs with half of the prompts held out nothing may be left to train on, which ends a job as failed.
    "TIERSTREAM_DEMO__HELD_OUT_ONE_IN": "6",
    # The small base model's context.
    "TIERSTREAM_JOBS__DPO__MAX_LENGTH": "512",
    "TIERSTREAM_JOBS__SFT__MAX_LENGTH": "512",
}
START_SECONDS = 90.0


def demo(
    bootstrap: str, folder: Path, experiences: int, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "streams.cli", "demo", "--bootstrap-servers", bootstrap, "--data-dir", str(folder)]
    return subprocess.Popen(
        [*command, "--experiences", str(experiences), "--json"],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_of(folder: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TIERSTREAM_DATA_DIR") == str(folder):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


@pytest.mark.timeout(1500)
def test_all_three_tiers_come_to_their_end(bootstrap: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    base = str(build_model(tmp_path / "base"))
    with demo(bootstrap, folder, 160, {**SMALL, "TIERSTREAM_JOBS__BASE_MODEL": base}) as process:
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    summary = json.loads(output)
    assert [(tier["name"], tier["state"]) for tier in summary["tiers"]] == [
        ("1 scorer", "COMPLETED"),
        ("2 DPO", "COMPLETED"),
        ("3 SFT", "COMPLETED"),
    ]
    assert (summary["parameters_configured"], summary["parameters_effective"]) == (7145, 7145)
    assert summary["funnel"]["widget"]["answers"] == summary["funnel"]["voice"]["answers"] > 0
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("jobs/*/result.json"))]
    assert {result["state"] for result in results} == {"finished"}
    assert {(result["metrics"]["examples"], result["metrics"]["steps"]) for result in results} == {(8, 2), (12, 2)}
    assert all((folder / "models" / r["version"].partition("-")[0] / r["version"]).is_dir() for r in results)
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert processes_of(folder) == []


def test_ctrl_c_stops_everything(bootstrap: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with demo(bootstrap, folder, 900) as process:
        deadline = time.monotonic() + START_SECONDS
        while not processes_of(folder):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert processes_of(folder) == []
