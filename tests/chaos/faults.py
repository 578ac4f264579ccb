"""The faults. Each takes the stage, does its harm, and leaves when the system is free to recover."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.brokers import Cluster, Node
from tests.chaos.fleet import Fleet, Slot

SESSION_SECONDS = 4.0
"""Session timeout of the workers under test."""
DRAIN_SECONDS = 15.0
DISK_MIB = 192


@dataclass
class Stage:
    """What can be harmed."""

    fleet: Fleet
    cluster: Cluster
    rng: random.Random
    disk: Path | None
    """The data directory, where it is a small file system of its own."""
    problems: list[str]
    leaves: list[float]
    """Seconds that workers took to leave."""

    def worker(self) -> Slot:
        """Draw a worker that should be running."""
        return self.rng.choice(self.fleet.running())


def kill_worker(stage: Stage) -> None:
    """SIGKILL of a worker, up to three times in a row."""
    stage.worker().send(signal.SIGKILL)
    for _ in range(stage.rng.choice([0, 0, 1, 2])):
        time.sleep(stage.rng.uniform(0.0, 6.0))
        stage.worker().send(signal.SIGKILL)


def kill_trainer(stage: Stage) -> None:
    """SIGKILL of the trainer."""
    stage.fleet.trainer.send(signal.SIGKILL)


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


def end_worker(stage: Stage) -> None:
    """SIGTERM: the worker drains and leaves in time."""
    slot = stage.worker()
    leave(stage, slot)
    slot.start()


def join_and_leave(stage: Stage) -> None:
    """Further workers join and leave."""
    idle = [slot for slot in stage.fleet.workers if not slot.wanted]
    for slot in idle:
        slot.start()
        time.sleep(stage.rng.uniform(0.0, 4.0))
    for slot in stage.rng.sample(stage.fleet.workers, len(idle)):
        time.sleep(stage.rng.uniform(1.0, 4.0))
        leave(stage, slot)


def pause_worker(stage: Stage) -> None:
    """SIGSTOP for longer than the session lasts, with another worker to take over, then SIGCONT: a zombie."""
    slot = stage.worker()
    slot.send(signal.SIGSTOP)
    time.sleep(SESSION_SECONDS + stage.rng.uniform(1.0, 5.0))
    slot.send(signal.SIGCONT)


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


def have_two(stage: Stage) -> None:
    """Let there be two workers, on different links, so that one can take over from the other."""
    for slot in stage.fleet.workers[:2]:
        if not slot.wanted:
            slot.start()
    deadline = time.monotonic() + 60
    while not all(slot.ready() for slot in stage.fleet.workers[:2]) and time.monotonic() < deadline:
        time.sleep(0.2)


Fault = Callable[[Stage], None]

FAULTS: dict[str, Fault] = {
    "SIGKILL of a worker": kill_worker,
    "SIGKILL of the trainer": kill_trainer,
    "SIGKILL of a broker": kill_broker,
    "SIGKILL of all at once": kill_all,
    "SIGTERM of a worker": end_worker,
    "workers join and leave": join_and_leave,
    "a worker paused (zombie)": pause_worker,
    "network of one worker cut": cut_one,
    "network of all workers cut": cut_all,
    "disk full": fill_disk,
    "disk slow": slow_disk,
}

PREPARATIONS: dict[str, Fault] = {"a worker paused (zombie)": have_two, "network of one worker cut": have_two}
"""What has to be so before the round's events are published."""

EVERY_OTHER = "SIGKILL of a worker"
"""Every second round is this one."""

WEIGHTS = {"a worker paused (zombie)": 3, "workers join and leave": 2, "SIGKILL of a broker": 2}
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


def leave(stage: Stage, slot: Slot) -> None:
    """Tell a process to stop, and see that it does so in time and in order."""
    code, seconds = slot.leave(2 * DRAIN_SECONDS)
    if slot.command == "worker":
        stage.leaves.append(seconds)
    if seconds > DRAIN_SECONDS + 1 or code not in (0, -signal.SIGTERM):
        stage.problems.append(f"{slot.name} left with code {code} after {seconds:.1f} s")


def _start(stage: Stage, nodes: list[Node]) -> None:
    for node in nodes:
        node.start()
    stage.cluster.wait_until_ready()
