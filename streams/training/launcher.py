"""How a training job's process is started, and ended."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from schemas.errors import JobError
from schemas.events import JobTier
from schemas.settings import Settings
from streams.training.log import HEADING, LOG_NAME
from trainers.jobs.base_model import is_hub_name

PROCESSES: Mapping[JobTier, str] = {tier: f"trainers.jobs.{tier}" for tier in get_args(JobTier)}
"""The module that does a tier's jobs, each as `python -m MODULE JOB_DIR`."""

TERMINATE_SECONDS = 5.0

Command = Callable[[JobTier, Path], list[str]]
"""Makes the command that runs the job of a tier and a folder."""


def local_command(tier: JobTier, folder: Path) -> list[str]:
    """Run the job on this machine, with this interpreter."""
    return [sys.executable, "-m", PROCESSES[tier], str(folder)]


def torchrun_command(tier: JobTier, folder: Path) -> list[str]:
    """Run the job on this machine, a process for each of its GPUs, or some processes where it has none."""
    return [sys.executable, "-m", "trainers.jobs.torchrun", PROCESSES[tier], str(folder)]


def ray_command(settings: Settings) -> Command:
    """Run the job on a Ray cluster that shares the data directory.

    Raises:
        JobError: Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise JobError(
            'jobs.launcher is "ray", and Ray is not installed',
            "pip install 'tierstream[ray]', or set jobs.launcher to local or torchrun",
        )
    jobs = settings.jobs

    def command(tier: JobTier, folder: Path) -> list[str]:
        where = ["--address", jobs.ray_address, "--gpus", f"{jobs.ray_gpus:g}"]
        return [sys.executable, "-m", "streams.training.ray_job", *where, PROCESSES[tier], str(folder.absolute())]

    return command


LAUNCHERS: Mapping[str, Callable[[Settings], Command]] = {
    "local": lambda settings: local_command,
    "torchrun": lambda settings: torchrun_command,
    "ray": ray_command,
}
"""By the name that `jobs.launcher` takes."""


def job_variables(base_model: str, data_dir: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables of a job's process: libraries keep to the data directory, leave cores to others, are offline.

    Args:
        base_model: of the job; only a name on the hub is fetched.
        data_dir: the data directory.
        environ: of this process; what it says already stays as it is.
    """
    home = Path(environ.get("HF_HOME") or Path(environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    variables = {
        "HF_HOME": str((data_dir / "models" / "hub").absolute()),
        # Who has logged in on this machine remains so.
        "HF_TOKEN_PATH": str(home.expanduser() / "token"),
        # Progress is reported in lines of its own.
        "TQDM_DISABLE": "1",
        # Threads that spin while they wait for one that has no core cost three times the CPU on a busy machine.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    if not is_hub_name(base_model):
        variables["HF_HUB_OFFLINE"] = "1"
    return {name: environ.get(name) or value for name, value in variables.items()}


def launch(
    command: list[str], folder: Path, lock: int, attempt: int, environ: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a job's process with its output appended to the job's log.

    Args:
        command: what to run.
        folder: the job's folder.
        lock: descriptor of the job's lock, which the process holds too: if this process is killed,
            nobody starts the job again while the job's own process still runs.
        attempt: count of tries, for the log.
        environ: variables of the process, beside those of this one.

    Raises:
        OSError: the log cannot be written, or the command does not start.
    """
    with (folder / LOG_NAME).open("ab") as log:
        heading = f"{HEADING}{attempt} at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {' '.join(command[1:])}"
        log.write(f"{' '.join(heading.split())[:400]}\n".encode())
        log.flush()
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(lock,),
            env={**os.environ, **environ},
            # Ctrl-C is for the trainer, which then ends the job; and a group of its own can be ended as a whole.
            process_group=0,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a job's process and what it has started: told first, by force after some seconds."""
    _signal_group(process.pid, signal.SIGTERM)
    try:
        process.wait(TERMINATE_SECONDS)
    except subprocess.TimeoutExpired:
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def how_it_ended(code: int) -> str:
    """Say in words how a process ended that left no result."""
    if code >= 0:
        return f"exited with {code}"
    hint = " (as the kernel does where memory runs out)" if -code == signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-code).name}{hint}"
