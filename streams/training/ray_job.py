"""`python -m streams.training.ray_job --address URL --gpus N MODULE JOB_DIR`: a job on Ray, as a local process.

Ray's own job engine runs it; this process submits it, prints its log, and ends as it ends. The submission carries the
job's folder: where a trainer was killed, the next one finds the job that still runs and follows that.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

POLL_SECONDS = 1.0
STOP_SECONDS = 4.5
"""Ray asks a job to end, and ends it by force after three seconds; whoever ends this process waits five."""

FOLDER = "tierstream_job_folder"
"""In a submission's metadata."""

VARIABLES = (
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "TQDM_DISABLE",
    "OMP_WAIT_POLICY",
    "PYTHONSAFEPATH",
    "TIERSTREAM_SERVING__URL",
    "TIERSTREAM_SERVING__TIMEOUT",
)
"""Variables of the environment that a job's process gets there as here: no secrets, for Ray shows them."""


def main(arguments: Sequence[str]) -> int:
    """Run the job and return the exit status: 0 where it succeeded, 1 where it did not."""
    parser = argparse.ArgumentParser(prog="python -m streams.training.ray_job")
    parser.add_argument("--address", required=True)
    parser.add_argument("--gpus", type=float, default=0.0)
    parser.add_argument("module")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)

    from ray.job_submission import JobSubmissionClient

    try:
        client = JobSubmissionClient(options.address)
    except ConnectionError:
        print(f"error: no Ray cluster at {options.address}: start one, or set jobs.ray_address", file=sys.stderr)
        return 1
    name = _running(client, options.folder) or _submit(client, options)
    signal.signal(signal.SIGTERM, lambda number, frame: _stop(client, name, number, frame))
    return _follow(client, name)


def _running(client: Any, folder: Path) -> str | None:
    """Return the submission of this job that has not ended, if there is one.

    Another deployment on the cluster may have a job of the same id, but not in this folder.
    """
    for job in client.list_jobs():
        if (job.metadata or {}).get(FOLDER) == str(folder) and not job.status.is_terminal():
            return str(job.submission_id)
    return None


def _submit(client: Any, options: argparse.Namespace) -> str:
    # Several GPUs take a process each.
    together = ["trainers.jobs.torchrun"] if options.gpus > 1 else []
    command = [sys.executable, "-m", *together, options.module, str(options.folder)]
    return str(
        client.submit_job(
            entrypoint=shlex.join(command),
            submission_id=f"{options.folder.name}-{time.time_ns()}",
            entrypoint_num_gpus=options.gpus,
            metadata={FOLDER: str(options.folder)},
            runtime_env={"env_vars": {name: os.environ[name] for name in VARIABLES if name in os.environ}},
        )
    )


def _follow(client: Any, name: str) -> int:
    """Print the log as it grows, until the job has ended."""
    printed = 0
    while True:
        ended = client.get_job_status(name).is_terminal()
        text = client.get_job_logs(name)
        print(text[printed:], end="", flush=True)
        printed = len(text)
        if ended:
            break
        time.sleep(POLL_SECONDS)
    info = client.get_job_info(name)
    print(f"Ray job {name} is {info.status}: {info.message or 'no message'}", flush=True)
    return 0 if info.status == "SUCCEEDED" else 1


def _stop(client: Any, name: str, number: int, frame: FrameType | None) -> None:
    client.stop_job(name)
    # Until it has ended nobody else may begin it.
    until = time.monotonic() + STOP_SECONDS
    while not client.get_job_status(name).is_terminal() and time.monotonic() < until:
        time.sleep(0.1)
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
