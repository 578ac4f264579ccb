"""`tierstream up`: broker, worker and trainer as processes, restarted when they die, stopped together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from schemas.config import LoadedSettings
from schemas.errors import TierstreamError
from schemas.settings import Settings
from streams.broker.embedded import EmbeddedBroker
from streams.broker.launch import check_port, free_port

READY_TIMEOUT_SECONDS = 120.0
POLL_SECONDS = 0.2
RESTARTS = 5
RESTARTS_WITHIN_SECONDS = 120.0
FIRST_PAUSE_SECONDS = 0.5


class Part:
    """One process of ours, its log file, and when to start it again."""

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._arguments = arguments
        self._environment = environment
        self._starts: deque[float] = deque(maxlen=RESTARTS)
        self._start_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; its output goes to the end of the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                # Ctrl-C is for us: parts are told to stop one after the other.
                process_group=0,
            )
        self._starts.append(time.monotonic())

    def keep_running(self, say: Callable[[str], None]) -> None:
        """Start the process again where it has ended, after a pause that grows with the number of recent ends.

        Raises:
            TierstreamError: it ended too often in too short a time.
        """
        now = time.monotonic()
        if self.process is None:
            if now >= self._start_at:
                self.start()
            return
        code = self.process.poll()
        if code is None:
            return
        recent = [at for at in self._starts if now - at < RESTARTS_WITHIN_SECONDS]
        if len(recent) >= RESTARTS:
            raise TierstreamError(
                f"the {self.name} ended {RESTARTS} times within {RESTARTS_WITHIN_SECONDS:g} s: {self.last_line()}",
                f"look at {self.log}",
            )
        pause = FIRST_PAUSE_SECONDS * 2.0 ** max(0, len(recent) - 1)
        say(f"the {self.name} ended with code {code}, starting it again in {pause:g} s (log: {self.log})")
        self._start_at = now + pause
        self.let_go()

    def let_go(self) -> None:
        """Forget the process, which has ended."""
        self.process = None

    def stop(self, timeout_seconds: float) -> None:
        """Tell the process to end, and end it by force after the timeout."""
        self.tell_to_stop()
        self.wait(timeout_seconds)

    def tell_to_stop(self) -> None:
        """Send SIGTERM."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait(self, timeout_seconds: float) -> None:
        """Wait until the process has ended, and end it by force after the timeout."""
        if self.process is None:
            return
        try:
            self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_line(self) -> str:
        """Return the last line of the log that tells of an error, or the last line."""
        lines = self.log.read_text("utf-8", errors="replace").splitlines() if self.log.exists() else []
        telling = [line for line in lines[-200:] if line.startswith("error: ")]
        return (telling or [line for line in lines if line.strip()] or ["it left no log"])[-1].removeprefix("error: ")


def run_up(settings: Settings, loaded: LoadedSettings, with_trainer: bool = True) -> None:
    """Run everything until SIGINT or SIGTERM.

    Raises:
        TierstreamError: a part cannot start, or keeps ending.
    """
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    with Stack(settings, loaded, with_trainer) as stack:
        stack.wait_until_ready(stopping)
        while not stopping.wait(POLL_SECONDS):
            stack.keep_running()


class Stack:
    """Broker, worker and trainer of one machine; a context manager."""

    def __init__(self, settings: Settings, loaded: LoadedSettings, with_trainer: bool = True) -> None:
        self.settings = settings
        self._embed = loaded.sources["kafka.bootstrap_servers"] == "default"
        self._with_trainer = with_trainer
        self._exit = ExitStack()
        self.parts: list[Part] = []
        self.bootstrap = settings.kafka.bootstrap_servers
        self.broker: EmbeddedBroker | None = None
        self.web_port = settings.web.port

    @property
    def web_url(self) -> str:
        """Where the worker's web server listens."""
        return f"http://{self.settings.web.host}:{self.web_port}"

    def __enter__(self) -> Stack:
        with self._exit:
            self._start()
            # What was started is stopped by __exit__ from here on, and by the `with` until here.
            self._exit = self._exit.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def wait_until_ready(self, stopping: threading.Event) -> None:
        """Wait for the worker, then say so.

        Raises:
            TierstreamError: the worker ended, or is not ready in time.
        """
        worker, deadline = self.parts[0], time.monotonic() + READY_TIMEOUT_SECONDS
        while not stopping.wait(POLL_SECONDS):
            if worker.process is not None and worker.process.poll() is not None:
                raise TierstreamError(f"the worker did not start: {worker.last_line()}", f"look at {worker.log}")
            if answers(f"{self.web_url}/readyz"):
                say("ready")
                return
            if time.monotonic() > deadline:
                raise TierstreamError(
                    f"the worker was not ready after {READY_TIMEOUT_SECONDS:g} s", f"look at {worker.log}"
                )

    def keep_running(self) -> None:
        """Look after every part once.

        Raises:
            TierstreamError: a part keeps ending.
        """
        if self.broker is not None and self.broker.process.poll() is not None:
            say(f"the broker ended with code {self.broker.process.returncode}, starting it again", error=True)
            self.broker.stop()
            self.broker.start()
        for part in self.parts:
            part.keep_running(lambda line: say(line, error=True))

    def _start(self) -> None:
        if self.web_port:
            check_port(self.web_port, "the web server", "web.port 0 picks a free one")
        else:
            self.web_port = free_port()
        if self._embed:
            self.broker = self._exit.enter_context(EmbeddedBroker(self.settings))
            self.bootstrap = self.broker.bootstrap
        say(f"broker: {self.bootstrap}")
        logs = Path(self.settings.data_dir) / "logs"
        environment = {
            **os.environ,
            **as_variables(self.settings, self.bootstrap, self.web_port),
            "PYTHONUNBUFFERED": "1",
        }
        names = ["worker", "trainer"] if self._with_trainer else ["worker"]
        for name in names:
            part = Part(name, [name], environment, logs / f"{name}.log")
            self._exit.callback(part.stop, self.settings.stream.drain_timeout + 5)
            part.start()
            self.parts.append(part)
        say(f"web: {self.web_url}")


def as_variables(settings: Settings, bootstrap: str, web_port: int) -> dict[str, str]:
    """Return the settings in effect as the variables that a part of ours reads them from."""
    variables: dict[str, str] = {}

    def walk(values: dict[str, object], prefix: str) -> None:
        for key, value in values.items():
            name = f"{prefix}{key.upper()}"
            if isinstance(value, dict):
                walk(value, f"{name}__")
            elif value is not None:
                secret = getattr(value, "get_secret_value", None)
                variables[name] = str(secret() if secret else value)

    walk(settings.model_dump(), "TIERSTREAM_")
    variables["TIERSTREAM_KAFKA__BOOTSTRAP_SERVERS"] = bootstrap
    variables["TIERSTREAM_WEB__PORT"] = str(web_port)
    return variables


def answers(url: str) -> bool:
    """Whether `url` answers with success now."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def say(line: str, *, error: bool = False) -> None:
    """Print one line at once."""
    print(line, file=sys.stderr if error else sys.stdout, flush=True)
