"""What a process and those that it started use together."""

from __future__ import annotations

from pathlib import Path

import psutil


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all that it started."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of the family so far."""
    times = [process.cpu_times() for process in family(pid)]
    return sum(one.user + one.system for one in times)


def resident_bytes(pid: int) -> int:
    """Return the family's resident memory; pages that are shared count for each."""
    return sum(process.memory_info().rss for process in family(pid))


def peak_bytes(pid: int) -> int:
    """Return the sum of each one's highest resident memory, which may have been at different times."""
    return sum(_peak_bytes(process.pid) for process in family(pid))


def _peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
