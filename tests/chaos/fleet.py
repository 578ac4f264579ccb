"""Workers and trainer of a deployment under faults, started again whenever they end unasked."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from streams.topics import ROLES
from tests.live import Deployment, Process
from trainers.files import write_atomically

PAUSE_SECONDS = 0.5
ROLE_MODULE = "streams.worker.role"


def slow_disk_variables(place: Path) -> dict[str, str]:
    """Return variables that make every fsync of a process as slow as the file at `place` says, while there is one."""
    return {"PYTHONPATH": str(Path(__file__).parent / "slow_disk"), "CHAOS_SLOW_FSYNC": str(place)}


class Slot:
    """A place for one process: with its own state folder and its own way to the brokers."""

    def __init__(self, deployment: Deployment, command: str, number: int, bootstrap: str) -> None:
        self.name = f"{command}-{number}"
        self.process: Process | None = None
        self.wanted = False
        self.endings: list[int] = []
        """Exit codes of processes that ended without being told to."""
        self.command = command
        self.sent: Counter[str] = Counter()
        """Signals that processes here were sent, by signal and kind of process."""
        self._deployment, self._bootstrap = deployment, bootstrap
        self._slow = deployment.data_dir.parent / f"slow-{self.name}"

    def start(self) -> None:
        """Start a process here."""
        self.wanted = True
        self.process = self._deployment.start(
            self.command,
            TIERSTREAM_KAFKA__BOOTSTRAP_SERVERS=self._bootstrap,
            TIERSTREAM_STATE_DIR=str(self._deployment.data_dir.parent / f"state-{self.name}"),
            **slow_disk_variables(self._slow),
        )

    def slow_disk(self, seconds: float | None) -> None:
        """Let every fsync of processes here take so much longer, or as long as it takes."""
        if seconds is None:
            self._slow.unlink()
        else:
            write_atomically(self._slow, str(seconds).encode())

    def send(self, how: signal.Signals) -> None:
        """Send a signal where a process runs; a worker is paused, or goes on, with all its roles."""
        if self.process is not None and self.process.popen.poll() is None:
            together = list(ROLES) if how in (signal.SIGSTOP, signal.SIGCONT) else []
            self.process.popen.send_signal(how)
            self.sent[f"{how.name} to {self.command}"] += 1
            for role in together:
                self.send_to(role, how)

    def role(self, name: str) -> psutil.Process | None:
        """Return the process of a role of the worker that runs here."""
        if self.process is None:
            return None
        try:
            children = psutil.Process(self.process.popen.pid).children(recursive=True)
            return next(
                (child for child in children if ROLE_MODULE in child.cmdline() and name in child.cmdline()), None
            )
        except psutil.Error:
            return None

    def send_to(self, name: str, how: signal.Signals) -> bool:
        """Send a signal to the process of a role; return whether there was one."""
        process = self.role(name)
        if process is None:
            return False
        try:
            process.send_signal(how)
        except psutil.NoSuchProcess:
            return False
        self.sent[f"{how.name} to {name}"] += 1
        return True

    def ended(self) -> int | None:
        """Return the exit code of a process that has ended."""
        return None if self.process is None else self.process.popen.poll()

    def leave(self, seconds: float) -> tuple[int, float]:
        """Tell the process to stop; return its exit code and how long it took, by force after `seconds`."""
        self.wanted = False
        began = time.monotonic()
        self.sent[f"SIGTERM to {self.command}"] += self.process is not None
        code = 0 if self.process is None else self.process.end(seconds)
        return code, time.monotonic() - began

    def ready(self) -> bool:
        """Whether the process says that it is ready."""
        return self.process is not None and self.process.get("/readyz")[0] == 200


class Fleet:
    """All slots, and the thread that starts again what has ended; a context manager."""

    def __init__(self, deployment: Deployment, link: Callable[[int], str], workers: int = 3) -> None:
        self.workers = [Slot(deployment, "worker", n, link(n % 2)) for n in range(workers)]
        self.trainer = Slot(deployment, "trainer", 0, link(0))
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_running, daemon=True)

    @property
    def slots(self) -> list[Slot]:
        """Workers and trainer."""
        return [*self.workers, self.trainer]

    def running(self) -> list[Slot]:
        """Return the workers that should be running."""
        return [slot for slot in self.workers if slot.wanted]

    def __enter__(self) -> Fleet:
        for slot in (self.workers[0], self.trainer):
            slot.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        for slot in self.slots:
            slot.send(signal.SIGCONT)
            slot.leave(30)

    def _keep_running(self) -> None:
        while not self._closing.wait(PAUSE_SECONDS):
            for slot in self.slots:
                code = slot.ended()
                if slot.wanted and code is not None:
                    slot.endings.append(code)
                    slot.start()
