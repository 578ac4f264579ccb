"""A process that ends with the one that started it, also where that was killed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when the one that started it ends, should it hang or be paused then.

    Linux only. Elsewhere nothing is asked of it.

    Args:
        parent: process id of the one that started it; where that has ended already, so does this, as the kernel tells
            of no end before it was asked to.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        sys.exit(0)
