"""Ends what a test run has started and left, however the run itself comes to its end.

Whatever a run starts inherits the name of the run's folder. `python -m tests.reaper PID FOLDER` waits for the run,
then ends what carries that name: a run that was killed leaves no broker, no worker and no folder behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

FOLDER = "TIERSTREAM_TEST_RUN"
"""Variable that names the run's folder."""
_STOP_SECONDS = 15


class Outliving(subprocess.Popen[bytes]):
    """A process that ends after this one: that nobody here waits for its end is no fault to be told."""

    def __del__(self) -> None:
        """Leave it."""


def start() -> None:
    """Mark whatever this process starts from here on, and have it ended once this process is gone."""
    os.environ[FOLDER] = tempfile.mkdtemp(prefix="tierstream-tests-")
    Outliving(
        [sys.executable, "-m", "tests.reaper", str(os.getpid()), os.environ[FOLDER]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[1],
        process_group=0,  # Ctrl-C is for the run: its processes still need what is ended here
    )


def run_folder() -> Path:
    """Return the folder of the run that this process belongs to."""
    return Path(os.environ[FOLDER])


def left_of(folder: str) -> list[psutil.Process]:
    """Return the processes that belong to a run, but for this one."""
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _run_of(process) == folder]


def _run_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(FOLDER)
    except (psutil.Error, OSError):
        return None


def main(pid: int, folder: str) -> None:
    """Wait for the run, then end what is left: by SIGTERM, and what has not gone by SIGKILL."""
    if psutil.pid_exists(pid):
        psutil.Process(pid).wait()
    left = left_of(folder)
    for process in left:
        process.terminate()
    psutil.wait_procs(left, timeout=_STOP_SECONDS)
    for process in left_of(folder):
        process.kill()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
