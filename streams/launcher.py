"""How a training job's process is started."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

LOG_NAME = "log.txt"

Command = Callable[[Path], list[str]]
"""Makes the command that runs the job of a folder."""


def local_command(folder: Path) -> list[str]:
    """Run the job on this machine, with this interpreter."""
    return [sys.executable, "-m", "trainers.jobs.validate", str(folder)]


LAUNCHERS: Mapping[str, Command] = {"local": local_command}
"""By the name that `jobs.launcher` takes."""


def launch(command: list[str], folder: Path, lock: int) -> subprocess.Popen[bytes]:
    """Start a job's process with its output appended to the job's log.

    Args:
        command: what to run.
        folder: the job's folder.
        lock: descriptor of the job's lock, which the process holds too: if this process is killed,
            nobody starts the job again while the job's own process still runs.
    """
    with (folder / LOG_NAME).open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(lock,),
            # Ctrl-C is for the trainer, which then ends the job.
            start_new_session=True,
        )
