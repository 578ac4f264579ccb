"""How a process of the worker is set up: heaps, garbage collection, logs."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
from typing import NoReturn

from schemas.settings import Settings

EXIT_REFUSED = 1
"""Exit status of a process that will not do better when it is started again: somebody has to act."""

NICENESS = 10

GC_THRESHOLDS = (50_000, 50, 100)
"""Our data has no cycles; what has, such as the tasks of asyncio, is few beside it."""

_M_ARENA_MAX = -8


def limit_arenas() -> None:
    """Let glibc keep two heaps rather than eight a core: each thread's own holds on to what passed through it."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 2)


def freeze_collector() -> None:
    """Let what is there by now stay: the collector need not walk through every module each few hundred events."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def log_to_stderr(settings: Settings) -> None:
    """Log at the level that is set; the libraries warnings only."""
    logging.basicConfig(
        level=settings.stream.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    for chatty in ("aiokafka", "faust", "mode"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.root.level))


def yield_to_tier_1() -> None:
    """Run niced, with all that is started from here: cadences of hours and days leave the cores to Tier 1 first.

    Niceness counts within a session where the kernel groups processes by it (autogroup), so none of ours begins one.
    """
    os.nice(NICENESS)


class _Refusals:
    """Where a role says why it will not do better when it is started again: what was its standard output."""

    descriptor: int | None = None


def keep_output_for_refusals() -> None:
    """Keep standard output for `refuse`; whatever is printed goes to standard error."""
    _Refusals.descriptor = os.dup(1)
    os.dup2(2, 1)


def refuse(error: Exception) -> NoReturn:
    """End at once, and tell whoever started this process why it is of no use to start it again."""
    line = f"error: {error}\n"
    if _Refusals.descriptor is None:
        sys.stderr.write(line)
    else:
        os.write(_Refusals.descriptor, line.encode())
    logging.shutdown()
    os._exit(EXIT_REFUSED)
