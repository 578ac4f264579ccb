"""The faults. Each takes the stage, does its harm, and leaves when the system is free to recover."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.brokers import Node
from tests.chaos.process_faults import (
    end_worker,
    have_two,
    join_and_leave,
    kill_paused_worker,
    kill_role,
    kill_trainer,
    kill_worker,
    pause_role,
    pause_worker,
)
from tests.chaos.stage import SESSION_SECONDS, Stage

DISK_MIB = 192


def kill_broker(stage: Stage) -> None:
    """SIGKILL of one broker, started again on its data."""
    node = stage.rng.choice(stage.cluster.nodes)
    node.end(signal.SIGKILL)
    time.sleep(stage.rng.uniform(0.0, 8.0))
    _start(stage, [node])


def kill_all(stage: Stage) -> None:
    """SIGKILL of brokers, workers and trainer at once."""
    for slot in stage.fleet.slots:
        slot.send(signal.SIGKILL)
    for node in stage.cluster.nodes:
        node.end(signal.SIGKILL)
    _start(stage, stage.cluster.nodes)


def cut_one(stage: Stage) -> None:
    """The network of one worker is cut for longer than its session lasts, then delivers what it held."""
    _cut(stage, [stage.rng.randrange(2)], SESSION_SECONDS + stage.rng.uniform(1.0, 5.0))


def cut_all(stage: Stage) -> None:
    """The network of all workers is cut."""
    _cut(stage, [0, 1], stage.rng.uniform(0.5, SESSION_SECONDS + 4.0))


def fill_disk(stage: Stage) -> None:
    """The data directory's file system is full."""
    assert stage.disk is not None
    ballast = stage.disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * (1 << 16))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    time.sleep(stage.rng.uniform(4.0, 10.0))
    ballast.unlink()


def slow_disk(stage: Stage) -> None:
    """Every fsync of a worker takes a second longer."""
    slot = stage.worker()
    slot.slow_disk(1.0)
    time.sleep(stage.rng.uniform(8.0, 12.0))
    slot.slow_disk(None)


Fault = Callable[[Stage], None]

FAULTS: dict[str, Fault] = {
    "SIGKILL of a worker": kill_worker,
    "SIGKILL of a role's process": kill_role,
    "SIGKILL of the trainer": kill_trainer,
    "SIGKILL of a broker": kill_broker,
    "SIGKILL of all at once": kill_all,
    "SIGTERM of a worker": end_worker,
    "workers join and leave": join_and_leave,
    "a worker paused (zombie)": pause_worker,
    "a worker paused, then killed": kill_paused_worker,
    "a role's process paused (zombie)": pause_role,
    "network of one worker cut": cut_one,
    "network of all workers cut": cut_all,
    "disk full": fill_disk,
    "disk slow": slow_disk,
}

PREPARATIONS: dict[str, Fault] = dict.fromkeys(
    (
        "a worker paused (zombie)",
        "a worker paused, then killed",
        "a role's process paused (zombie)",
        "network of one worker cut",
    ),
    have_two,
)
"""What has to be so before the round's events are published."""

MOSTLY = "SIGKILL of a worker"
"""Two rounds of three are this one."""

WEIGHTS = {
    "a worker paused (zombie)": 3,
    "workers join and leave": 2,
    "SIGKILL of a broker": 2,
    "SIGKILL of a role's process": 4,
    "a role's process paused (zombie)": 3,
}
"""How often one of the others is drawn, against 1."""


def mount_small_disk(folder: Path) -> Path | None:
    """Mount a small file system on `folder` where we may; None where we may not."""
    folder.mkdir(parents=True)
    if os.geteuid() != 0:
        return None
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    return folder if mounted.returncode == 0 else None


def unmount(folder: Path | None) -> None:
    """Unmount it."""
    if folder is not None:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def _cut(stage: Stage, links: list[int], seconds: float) -> None:
    proxies = [proxy for link in links for proxy in stage.cluster.links[link]]
    for proxy in proxies:
        proxy.cut()
    time.sleep(seconds)
    for proxy in proxies:
        proxy.mend()


def _start(stage: Stage, nodes: list[Node]) -> None:
    for node in nodes:
        node.start()
    stage.cluster.wait_until_ready()
