"""Faults of workers, of their roles' processes, and of the trainer."""

from __future__ import annotations

import signal
import time

from streams.topics import ROLES
from tests.chaos.fleet import Slot
from tests.chaos.stage import SESSION_SECONDS, Stage, leave

START_SECONDS = 20.0
READY_SECONDS = 60.0


def kill_worker(stage: Stage) -> None:
    """SIGKILL of a worker, up to three times in a row."""
    stage.worker().send(signal.SIGKILL)
    for _ in range(stage.rng.choice([0, 0, 1, 2])):
        time.sleep(stage.rng.uniform(0.0, 6.0))
        stage.worker().send(signal.SIGKILL)


def kill_trainer(stage: Stage) -> None:
    """SIGKILL of the trainer."""
    stage.fleet.trainer.send(signal.SIGKILL)


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


def kill_role(stage: Stage) -> None:
    """SIGKILL of a role's process, up to three times in a row: its worker starts it again, and the others go on."""
    for pause in [0.0, *[stage.rng.uniform(0.0, 6.0) for _ in range(stage.rng.choice([0, 0, 1, 2]))]]:
        time.sleep(pause)
        slot, role = stage.worker(), stage.rng.choice(ROLES)
        deadline = time.monotonic() + START_SECONDS
        while slot.role(role) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        slot.send_to(role, signal.SIGKILL)


def pause_role(stage: Stage) -> None:
    """SIGSTOP of a role's process alone for longer than its session lasts, then SIGCONT: a zombie, mostly a scorer."""
    slot, role = stage.worker(), stage.rng.choice(("scorer", "scorer", *ROLES))
    slot.send_to(role, signal.SIGSTOP)
    time.sleep(SESSION_SECONDS + stage.rng.uniform(1.0, 5.0))
    slot.send_to(role, signal.SIGCONT)


def pause_worker(stage: Stage) -> None:
    """SIGSTOP for longer than the session lasts, with another worker to take over, then SIGCONT: a zombie."""
    slot = stage.worker()
    _pause(stage, slot)
    slot.send(signal.SIGCONT)


def kill_paused_worker(stage: Stage) -> None:
    """SIGSTOP for longer than the session lasts, then SIGKILL: it has written no checkpoint before its successor."""
    slot = stage.worker()
    _pause(stage, slot)
    slot.send(signal.SIGKILL)


def have_two(stage: Stage) -> None:
    """Let there be two workers, on different links, so that one can take over from the other."""
    for slot in stage.fleet.workers[:2]:
        if not slot.wanted:
            slot.start()
    be_ready(stage)


def be_ready(stage: Stage) -> None:
    """Wait until all workers that should be running are ready."""
    deadline = time.monotonic() + READY_SECONDS
    while not all(slot.ready() for slot in stage.fleet.running()) and time.monotonic() < deadline:
        time.sleep(0.2)


def _pause(stage: Stage, slot: Slot) -> None:
    """Pause a worker for longer than its session lasts."""
    slot.send(signal.SIGSTOP)
    time.sleep(SESSION_SECONDS + stage.rng.uniform(1.0, 5.0))
