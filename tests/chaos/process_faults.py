"""Faults of workers, of their scorers' processes, and of the trainer."""

from __future__ import annotations

import signal
import time

from tests.chaos.fleet import Slot
from tests.chaos.stage import SESSION_SECONDS, STALL_SECONDS, Stage, leave
from tests.live import Process

SCORER_GONE_SECONDS = 10.0
"""A worker asks its scorer something twice a second."""
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


def kill_scorer(stage: Stage) -> None:
    """SIGKILL of the scorer's own process, up to three times in a row: its worker must end with it."""
    for pause in [0.0, *[stage.rng.uniform(0.0, 6.0) for _ in range(stage.rng.choice([0, 0, 1, 2]))]]:
        time.sleep(pause)
        slot = stage.worker()
        deadline = time.monotonic() + START_SECONDS
        while slot.scorer() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        worker = slot.process
        if slot.send_to_scorer(signal.SIGKILL):
            _see_it_end(stage, slot, worker, SCORER_GONE_SECONDS)


def pause_scorer(stage: Stage) -> None:
    """SIGSTOP of the scorer's own processes only, for longer than a session lasts.

    Workers answer the broker meanwhile, so nobody takes over. Every second time it lasts until the watchdog has ended
    the one whose scorer owns the partition; it is killed with its worker, as no successor could work beside it.
    """
    running = [(slot, slot.process) for slot in stage.fleet.running()]
    endings = sum(len(slot.endings) for slot, _ in running)
    for slot, _ in running:
        slot.send_to_scorer(signal.SIGSTOP)
    if stage.rng.random() < 0.5:
        time.sleep(SESSION_SECONDS + stage.rng.uniform(1.0, 5.0))
    else:
        deadline = time.monotonic() + 4 * STALL_SECONDS
        while sum(len(slot.endings) for slot, _ in running) == endings:
            if time.monotonic() > deadline:
                stage.problems.append("workers whose scorer was paused went on without progress")
                break
            time.sleep(0.2)
    for slot, _ in running:
        slot.send_to_scorer(signal.SIGCONT)


def pause_worker(stage: Stage) -> None:
    """SIGSTOP for longer than the session lasts, with another worker to take over, then SIGCONT: a zombie.

    Its scorer's process is paused with it, as when the machine stands still, or goes on alone.
    """
    slot = stage.worker()
    _pause(stage, slot)
    slot.send_to_scorer(signal.SIGCONT)
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
    """Pause a worker for longer than its session lasts, every second time with its scorer's process."""
    slot.send(signal.SIGSTOP)
    if stage.rng.random() < 0.5:
        slot.send_to_scorer(signal.SIGSTOP)
    time.sleep(SESSION_SECONDS + stage.rng.uniform(1.0, 5.0))


def _see_it_end(stage: Stage, slot: Slot, worker: Process | None, seconds: float) -> None:
    """See that a worker ends by itself."""
    deadline = time.monotonic() + seconds
    while worker is not None and worker.popen.poll() is None:
        if time.monotonic() > deadline:
            stage.problems.append(f"{slot.name} went on for {seconds:g} s without its scorer")
            return
        time.sleep(0.1)
