"""The embedded broker's life: lock, start, readiness, stop."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

from schemas.errors import BrokerError, JarsUnavailableError
from schemas.settings import Settings
from streams.broker import kafka, lite
from streams.broker.launch import LOOPBACK, Launch, check_port, free_port
from streams.broker.probe import is_ready

BrokerKind = Literal["kafka", "lite"]

START_TIMEOUT_SECONDS = 90.0
STOP_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.1


def say_to_stderr(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


class EmbeddedBroker:
    """One broker on loopback with its files in `data_dir/broker`; a context manager.

    Attributes:
        bootstrap: `HOST:PORT`, once it is started.
        kind: Apache Kafka or lite, once it is started.
        process: the running process, once it is started.
    """

    bootstrap: str
    kind: BrokerKind
    process: subprocess.Popen[bytes]

    def __init__(self, settings: Settings, say: Callable[[str], None] = say_to_stderr) -> None:
        self.settings = settings
        self.port = settings.broker.port
        self.folder = Path(settings.data_dir).absolute() / "broker"
        self._say = say
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start the broker and wait until it answers; a second start uses the same port.

        Raises:
            BrokerError: it cannot start, with the reason in one line.
        """
        self._lock = _take_lock(self.folder)
        try:
            if self.port:
                check_port(
                    self.port,
                    "the broker",
                    "--broker-port 0 picks a free one; --bootstrap-servers uses a broker that is there",
                )
            else:
                self.port = free_port()
            self.kind, launch = self._prepare()
            self._spawn(launch)
            self._wait_until_ready(launch)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, timeout_seconds: float = STOP_TIMEOUT_SECONDS) -> None:
        """End the broker cleanly, by force after the timeout; harmless where it is not running."""
        process = getattr(self, "process", None)
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _prepare(self) -> tuple[BrokerKind, Launch]:
        wanted = self.settings.broker.kind
        if wanted == "lite":
            return "lite", lite.prepare(self.folder, self.port)
        try:
            return "kafka", kafka.prepare(self.settings, self.folder, self.port, self._say)
        except JarsUnavailableError as error:
            if wanted == "kafka":
                raise
            self._say(f"using the lite broker, which keeps topics in memory only: {error.message}")
            return "lite", lite.prepare(self.folder, self.port)

    def _spawn(self, launch: Launch) -> None:
        assert self._lock is not None
        with launch.logs[0].open("wb") as output:
            self.process = subprocess.Popen(
                launch.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **launch.environment},
                # Ctrl-C is for us: the broker goes last, after those who still write to it.
                process_group=0,
                # The lock lives as long as the broker, also where we are killed.
                pass_fds=(self._lock.fileno(),),
            )
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(str(self.process.pid))
        self._lock.flush()
        self.bootstrap = f"{LOOPBACK}:{self.port}"

    def _wait_until_ready(self, launch: Launch) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        with ThreadPoolExecutor(1) as pool:  # a thread has no running loop, whoever calls
            while not pool.submit(asyncio.run, is_ready(self.bootstrap)).result():
                if self.process.poll() is not None:
                    raise BrokerError(
                        f"the broker ended at its start with code {self.process.returncode}: {_last_error(launch)}",
                        f"look at {launch.logs[-1]}",
                    )
                if time.monotonic() > deadline:
                    raise BrokerError(
                        f"the broker did not answer within {START_TIMEOUT_SECONDS:g} seconds: {_last_error(launch)}",
                        f"look at {launch.logs[-1]}",
                    )
                time.sleep(_POLL_SECONDS)


def _take_lock(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise BrokerError(
            f"{folder} cannot be written: {error.strerror}", "give another folder with --data-dir"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        raise BrokerError(
            f"another broker, process {owner}, already uses {folder}",
            f"stop it (`kill {owner}`), or give another folder with --data-dir",
        ) from error
    return lock


def _last_error(launch: Launch) -> str:
    """Return the last line of the logs that tells of an error, or else the last line."""
    lines = [
        line.strip()
        for log in launch.logs
        if log.exists()
        for line in log.read_text("utf-8", errors="replace").splitlines()[-400:]
        if line.strip() and not line.startswith(("\t", " "))
    ]
    telling = [line for line in lines if "ERROR" in line or "Exception" in line or "Error" in line]
    return (telling or lines or ["it left no log"])[-1]
