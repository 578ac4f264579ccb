"""`python -m trainers.jobs.torchrun MODULE JOB_DIR`: runs a job's module in several processes that train together.

One for each GPU of the machine; where it has none, one for each core, as far as memory allows each a copy of the model.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from torch.cuda import device_count
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

GIB_A_PROCESS = 4
"""A default job peaks below 3 GiB a process on the CPU."""

MOST_PROCESSES = 8


def world_size(gpus: int, cores: int, memory_gib: float) -> int:
    """Return how many processes train together."""
    if gpus:
        return gpus
    return max(1, min(cores, int(memory_gib / GIB_A_PROCESS), MOST_PROCESSES))


def first_failure(error: ChildFailedError) -> str:
    """Return in one line which process ended first, and why."""
    rank, failure = error.get_first_failure()
    message: Any = failure.message
    why = message["message"] if isinstance(message, dict) else message if failure.exitcode < 0 else "it failed"
    return f"process {rank} ended the others: {' '.join(str(why).split())[:300]}"


def main(arguments: Sequence[str]) -> int:
    """Run the job and return the exit status: 0 where every process ended well, 1 where one did not, 2 wrong usage."""
    if len(arguments) != 2:
        print("usage: python -m trainers.jobs.torchrun MODULE JOB_DIR", file=sys.stderr)
        return 2
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = device_count()
    cores = len(os.sched_getaffinity(0))
    processes = world_size(gpus, cores, memory_gib)
    print(f"{processes} processes train together", flush=True)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    if not gpus:
        # Each process would have a device of its own, cpu:0 and cpu:1, and no checkpoint could be read back onto these.
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    try:
        torchrun(["--standalone", f"--nproc-per-node={processes}", "-m", "trainers.jobs.rank", *arguments])
    except ChildFailedError as error:
        print(f"error: {first_failure(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
