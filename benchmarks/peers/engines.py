"""The engines that are compared, what each guarantees, and its process on topics of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import cpu_seconds, resident_bytes
from benchmarks.system import CommandFailedError, command_line, last_line, settings_of
from schemas.settings import Settings
from streams.broker.launch import free_port

ROOT = Path(__file__).parents[2]
OURS, UNPAIRED, BARE, FLOOR = "Tierstream", "Tierstream, unpaired", "bare aiokafka", "floor"
TWO_HOPS, ACKNOWLEDGED = "bare aiokafka, two hops", "two hops, state acknowledged"


@dataclass(frozen=True, slots=True)
class Engine:
    """How an engine is started, and what it gives; the figures are to be read with that."""

    module: str | None
    """In this package; None for `tierstream worker`."""
    state: str
    """Where the join's state is."""
    delivery: str
    """When an input counts as done."""
    after_a_crash: str
    """What becomes of learning."""
    pairs: bool = False
    """Whether preference pairs are made in the same process."""


_LOST = "starts anew: join state and weights are lost"
_IN_MEMORY = "memory"

ENGINES = {
    OURS: Engine(
        None,
        "changelog, acknowledged before the input counts as done",
        "once outputs and state are acknowledged; repeated outputs are told by id or origin",
        "exact: steps are logged before they are taken",
        pairs=True,
    ),
    UNPAIRED: Engine(
        "without_pairs", "as above", "as above; answers are handed on, and nothing pairs them", "as above"
    ),
    BARE: Engine("bare", _IN_MEMORY, "at least once: outputs are awaited, then offsets committed", _LOST),
    "FastStream": Engine("faststream_batch", _IN_MEMORY, "at least once: outputs are awaited, then committed", _LOST),
    "Quix Streams": Engine("quix", _IN_MEMORY, "at least once: outputs are flushed, then committed", _LOST),
    "Bytewax": Engine(
        "bytewax_flow", _IN_MEMORY, "at least once: outputs are flushed, offsets kept once a second", _LOST
    ),
    TWO_HOPS: Engine("two_hops", _IN_MEMORY, "as above, and again for the topic in between", _LOST),
    ACKNOWLEDGED: Engine(
        "two_hops_acknowledged",
        "memory; the records of a changelog and of a log of steps are written and waited for",
        "as above",
        _LOST,
    ),
    FLOOR: Engine("floor", "none", "fetches and decodes, and does none of the work", "nothing to lose"),
}
PEERS = tuple(name for name in ENGINES if name not in (OURS, UNPAIRED, TWO_HOPS, ACKNOWLEDGED, FLOOR))
"""Those that do the same work, as their users would write it."""


class RunningEngine:
    """One engine's process.

    Args:
        name: of `ENGINES`.
        python: of the environment that has the peers' packages.
        bootstrap: the broker.
        folder: for data and logs.
        number: tells this run's files from others'.
    """

    def __init__(self, name: str, python: str, bootstrap: str, folder: Path, number: int) -> None:
        self.name, self.engine = name, ENGINES[name]
        prefix = f"peers{uuid.uuid4().hex[:8]}-"
        self._variables = {
            "TIERSTREAM_TOPICS__PREFIX": prefix,
            "TIERSTREAM_KAFKA__SESSION_TIMEOUT": "45s",  # as librdkafka's: it is stopped for seconds
            "TIERSTREAM_WEB__PORT": str(free_port()),
        }
        self.settings: Settings = settings_of(bootstrap, folder / f"data-{number}", self._variables)
        self._log = folder / f"{number}-{name.replace(' ', '-')}.log"
        module, arguments = self.engine.module, ["--bootstrap-servers", bootstrap, "--data-dir", self.settings.data_dir]
        if module is None:
            self._command = command_line(["worker", *arguments])
        elif name == UNPAIRED:
            self._command = [sys.executable, "-m", f"benchmarks.peers.{module}", "worker", *arguments]
        else:
            self._command = [python, "-m", f"benchmarks.peers.{module}", bootstrap, prefix]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env={**os.environ, **self._variables}, stdout=log, stderr=log
            )

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def used(self) -> tuple[float, int]:
        """Return CPU seconds and resident bytes of it and what it started."""
        assert self._process is not None
        return cpu_seconds(self._process.pid), resident_bytes(self._process.pid)

    def check(self) -> None:
        """See that it runs.

        Raises:
            CommandFailedError: it does not.
        """
        assert self._process is not None
        if self._process.poll() is not None:
            raise CommandFailedError(f"{self.name} ended: {last_line(self._log)} (log: {self._log})")

    def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self.tell(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
