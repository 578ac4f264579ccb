"""What faults can harm, and how the processes of it are timed."""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.brokers import Cluster
from tests.chaos.fleet import Fleet, Slot

SESSION_SECONDS = 4.0
"""Session timeout of the workers under test."""
DRAIN_SECONDS = 15.0
STALL_SECONDS = 20.0
"""Their `stream.stall_timeout`."""


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


def leave(stage: Stage, slot: Slot) -> None:
    """Tell a process to stop, and see that it does so in time and in order."""
    code, seconds = slot.leave(2 * DRAIN_SECONDS)
    if slot.command == "worker":
        stage.leaves.append(seconds)
    if seconds > DRAIN_SECONDS + 1 or code not in (0, -signal.SIGTERM):
        stage.problems.append(f"{slot.name} left with code {code} after {seconds:.1f} s")
