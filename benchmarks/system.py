"""The system as a user runs it: `tierstream` commands as processes, and what they print, serve and leave on disk."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from schemas.config import load
from schemas.settings import Settings

START_TIMEOUT_SECONDS = 300.0
"""A first start fetches the broker."""
STOP_TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.1


class CommandFailedError(RuntimeError):
    """A command of the system did not do what it should; the message tells its last words."""


class Command:
    """One `tierstream` command that runs until it is stopped; its lines `name: value` are read until `ready`.

    Args:
        arguments: of `tierstream`.
        environment: variables beside our own, `TIERSTREAM_*` for settings.
        log: where its error output goes.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.values: dict[str, str] = {}
        self._log = log
        self._lines: queue.Queue[str | None] = queue.Queue()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                command_line(arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **environment},
            )
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_until_ready(self) -> None:
        """Read `name: value` lines until `ready`.

        Raises:
            CommandFailedError: it ended before, or took too long.
        """
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while (line := self._next_line(deadline)) != "ready":
            name, _, value = line.partition(": ")
            self.values[name] = value

    def stop(self) -> None:
        """End it as Ctrl-C would, by force after a while."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _next_line(self, deadline: float) -> str:
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            line = None
        if line is None:
            raise CommandFailedError(f"not ready: {last_line(self._log)} (log: {self._log})")
        return line

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)


class RunningSystem:
    """`tierstream up` on free ports and a data directory of its own; a context manager.

    Args:
        folder: holds `data`, the logs, and the files that are published.
        variables: settings that differ from the defaults, `TIERSTREAM_SCORER__RANK` for one.
        trainer: whether jobs are trained.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str], trainer: bool = False) -> None:
        self.folder = folder
        self._trainer = trainer
        self.data_dir = folder / "data"
        self.variables = dict(variables)
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        arguments = ["up", "--broker-port", "0", "--web-port", "0", "--data-dir", str(self.data_dir)]
        arguments += [] if self._trainer else ["--no-trainer"]
        with self._exit:
            self.up = self._exit.enter_context(Command(arguments, self.variables, self.folder / "up.log"))
            self.up.wait_until_ready()
            self._exit = self._exit.pop_all()
        self.bootstrap, self.web = self.up.values["broker"], self.up.values["web"]
        self.settings = settings_of(self.bootstrap, self.data_dir, self.variables)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def produce(self, topic: str, lines: Sequence[bytes], rate: float | None = None) -> None:
        """Publish events by `tierstream produce`.

        Raises:
            CommandFailedError: it named a bad line or failed.
        """
        with self.start_producing(topic, lines, rate) as producing:
            wait_for_success(producing)

    def start_producing(self, topic: str, lines: Sequence[bytes], rate: float | None = None) -> subprocess.Popen[str]:
        """Start `tierstream produce` on the events; the caller waits for it."""
        file = self.folder / f"{topic}-{time.monotonic_ns()}.jsonl"
        file.write_bytes(b"".join(line + b"\n" for line in lines))
        arguments = ["produce", topic, str(file), "--bootstrap-servers", self.bootstrap]
        if rate is not None:
            arguments += ["--rate", str(rate)]
        return self._run(arguments)

    def try_worker(self, variables: Mapping[str, str]) -> tuple[int, str]:
        """Start a second worker on the same data with other settings; return its exit code and last words.

        Raises:
            subprocess.TimeoutExpired: it did not refuse to start.
        """
        arguments = ["worker", "--bootstrap-servers", self.bootstrap, "--data-dir", str(self.data_dir)]
        with self._run([*arguments, "--web-port", "0"], variables) as process:
            try:
                _, errors = process.communicate(timeout=STOP_TIMEOUT_SECONDS)
            finally:
                process.kill()
        return process.returncode, (errors.strip().splitlines() or [""])[-1]

    def worker(self) -> psutil.Process | None:
        """Return the worker's process, None between a death and the next start."""
        return worker_of(psutil.Process(self.up.process.pid))

    def status(self) -> dict[str, Any]:
        """Return what the worker's status endpoint tells."""
        return fetch_json(f"{self.web}/status")

    def _run(self, arguments: Sequence[str], variables: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        environment = {**os.environ, **self.variables, **(variables or {})}
        return subprocess.Popen(
            command_line(arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )


def command_line(arguments: Sequence[str]) -> list[str]:
    """Return the command that runs `tierstream` of this very installation."""
    return [sys.executable, "-m", "streams.cli", *arguments]


def settings_of(bootstrap: str, data_dir: Path, variables: Mapping[str, str]) -> Settings:
    """Return the settings that a command with these flags and variables has."""
    flags = {"kafka.bootstrap_servers": bootstrap, "data_dir": str(data_dir)}
    return load(None, {**os.environ, **variables}, flags).settings


def wait_for_success(process: subprocess.Popen[str]) -> None:
    """Wait for `tierstream produce`.

    Raises:
        CommandFailedError: its exit code is not 0.
    """
    _, errors = process.communicate()
    if process.returncode:
        words = (errors.strip().splitlines() or ["no words"])[-1]
        raise CommandFailedError(f"tierstream produce ended with {process.returncode}: {words}")


def worker_of(parent: psutil.Process) -> psutil.Process | None:
    """Return the child of `parent` that runs `tierstream worker`."""
    for child in parent.children():
        try:
            if child.cmdline()[-1:] == ["worker"]:
                return child
        except psutil.NoSuchProcess:
            continue
    return None


def fetch_json(url: str) -> dict[str, Any]:
    """Return the JSON object at `url`."""
    with urllib.request.urlopen(url, timeout=30) as response:
        content = json.load(response)
    assert isinstance(content, dict)
    return content


def last_line(log: Path) -> str:
    """Return the last line of a log."""
    lines = log.read_text("utf-8", errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else "it left no words"
