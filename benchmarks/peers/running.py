"""One engine's process on topics of its own, with all that it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.peers.engines import ENGINES, OUR_JOIN, OURS, UNPAIRED
from benchmarks.processes import cpu_seconds, family, resident_bytes
from benchmarks.system import CommandFailedError, command_line, last_line, settings_of
from schemas.settings import Settings
from streams.broker.launch import free_port

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 20
STOPPED_SESSION_SECONDS = 45
"""As librdkafka's by default: an engine is stopped for seconds."""


class RunningEngine:
    """One engine's process and those that it starts; none of them outlives `kill` or `stop`.

    Args:
        name: of `ENGINES`.
        python: of the environment that has the peers' packages.
        bootstrap: the broker.
        folder: for data and logs.
        number: tells this run's files from others'.
        session_seconds: after so long without a sign of it, the broker holds it to be dead.
    """

    def __init__(
        self,
        name: str,
        python: str,
        bootstrap: str,
        folder: Path,
        number: int,
        session_seconds: int = STOPPED_SESSION_SECONDS,
    ) -> None:
        self.name, self.engine = name, ENGINES[name]
        prefix, data = f"peers{uuid.uuid4().hex[:8]}-", folder / f"data-{number}"
        self._variables = {
            "TIERSTREAM_TOPICS__PREFIX": prefix,
            "TIERSTREAM_KAFKA__SESSION_TIMEOUT": f"{session_seconds}s",
            "TIERSTREAM_WEB__PORT": str(free_port()),
        }
        self.settings: Settings = settings_of(bootstrap, data, self._variables)
        self._log = folder / f"{number}-{name.replace(' ', '-')}.log"
        self.is_ours = name in (OURS, UNPAIRED, OUR_JOIN)
        module, options = self.engine.module, self.engine.options
        worker = ["worker", "--bootstrap-servers", bootstrap, "--data-dir", str(data), *options]
        if module is None:
            self._command = command_line(worker)
        else:
            arguments = [bootstrap, prefix, str(data), str(session_seconds), *options]
            self._command = [python, "-m", f"benchmarks.peers.{module}", *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env={**os.environ, **self._variables}, stdout=log, stderr=log
            )

    def tell(self, number: signal.Signals) -> None:
        """Send it and what it started a signal."""
        _tell(family(self.pid), number)

    def used(self) -> tuple[float, int]:
        """Return CPU seconds and resident bytes of it and what it started."""
        return cpu_seconds(self.pid), resident_bytes(self.pid)

    def check(self) -> None:
        """See that it runs.

        Raises:
            CommandFailedError: it does not.
        """
        assert self._process is not None
        if self._process.poll() is not None:
            raise CommandFailedError(f"{self.name} ended: {last_line(self._log)} (log: {self._log})")

    def kill(self) -> None:
        """End it and what it started by SIGKILL."""
        _end(self._alive())
        if self._process is not None:
            self._process.wait()

    def stop(self) -> None:
        """End it as Ctrl-C would; whatever is left of it after a while, by SIGKILL."""
        those = self._alive()
        if those:
            assert self._process is not None
            _tell(those, signal.SIGCONT)
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        _end(those)
        self.kill()

    def _alive(self) -> list[psutil.Process]:
        return family(self.pid) if self._process is not None and self._process.poll() is None else []


def _end(those: list[psutil.Process]) -> None:
    _tell(those, signal.SIGKILL)  # the one that starts others first
    psutil.wait_procs(those, timeout=STOP_SECONDS)


def _tell(those: list[psutil.Process], number: signal.Signals) -> None:
    for process in those:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
