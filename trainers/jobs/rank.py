"""`python -m trainers.jobs.rank MODULE JOB_DIR`: one of several processes that train together.

torchrun gives each a session of its own, so that a killed torchrun would leave them behind, training on beside the
next attempt. The kernel is asked to end them with it.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys

from torch.distributed.elastic.multiprocessing.errors import record

from trainers.parent import end_with_parent


@record
def run(module: str) -> None:
    """Run a module with this process's arguments; torchrun reports an exception that ends it."""
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    end_with_parent()
    if sys.platform.startswith("linux") and os.getppid() == 1:  # it was too late
        os.kill(os.getpid(), signal.SIGKILL)
    sys.argv = sys.argv[1:]
    run(sys.argv[0])
