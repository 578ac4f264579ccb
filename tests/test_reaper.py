"""A test run that is killed leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

RUN = """
import subprocess, sys
from tests import reaper
reaper.start()
worker = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(worker.pid, reaper.run_folder(), flush=True)
sys.stdin.read()
"""
WAIT_SECONDS = 60.0


def test_what_a_killed_run_has_started_ends_and_its_folder_goes() -> None:
    command = [sys.executable, "-c", RUN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pid, folder = run.stdout.readline().split()
        worker = psutil.Process(int(pid))
        [reaper] = [child for child in psutil.Process(run.pid).children() if "tests.reaper" in child.cmdline()]
        run.kill()
    assert psutil.wait_procs([worker, reaper], timeout=WAIT_SECONDS)[1] == []
    assert not Path(folder).exists()
