"""The scorer in a process of its own, beside the worker's: learning and joining each have a core's interpreter.

This is the worker's side; `streams.agents.scorer_desk` is the other, which runs a `ScorerAgent` with a publisher of
its own. It lives as long as the worker: its socket tells it of the worker's end, however that came, and a worker whose
scorer has ended ends too.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any, Protocol

import orjson
from pydantic import SecretStr

from schemas.errors import TierstreamError
from schemas.settings import Settings
from streams.metrics import Metrics
from streams.remote import Caller, error_of, receive, send
from streams.transport.batch import RecordBatch
from trainers.scorer.pause import LearningPause

END_SECONDS = 20.0


class Scorer(Protocol):
    """What the worker asks of the scorer, wherever that runs."""

    def check_architecture(self) -> None:
        """Compare the scorer that is built, and its checkpoint, with the settings.

        Raises:
            TierstreamError: they differ; names both and the remedies.
        """

    async def process(self, batch: RecordBatch) -> None:
        """Score and learn one chunk."""

    async def start_offset(self) -> int:
        """Return the input offset to resume at."""

    def durable_through(self) -> int:
        """Return the input offset that may be committed."""

    async def take_over_when_assigned(self, assigned: bool) -> None:
        """Take the scorer over where its partition is this worker's."""

    async def follow(self) -> int | None:
        """Take over what changed beside the stream; return where to read the partition again from, if anywhere."""

    async def checkpoint(self) -> None:
        """Write a checkpoint where there is something new."""

    async def checkpoint_when_idle(self) -> None:
        """Write a checkpoint where something changed and then nothing happened for a while."""

    def forget(self) -> None:
        """Give the scorer up."""

    def status(self) -> dict[str, Any] | None:
        """Return the learner's figures where this worker owns the scorer."""

    def paused_since(self) -> str | None:
        """Return when learning was paused, None where it is not."""


class ScorerProcess:
    """The worker's side: starts the process and passes calls on.

    Args:
        settings: of the worker.
        metrics: takes what the scorer counts.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "streams.agents.scorer_desk", str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self._connection = ours
        # Not by the command line or the environment, which others can read.
        send(ours, orjson.dumps(settings.model_dump(), default=SecretStr.get_secret_value))
        self._caller = Caller(ours, self._take)
        self._metrics = metrics
        self._pause = LearningPause(settings.data_dir)
        self._durable = 0
        self._status: dict[str, Any] | None = None

    @property
    def pid(self) -> int:
        """Of the scorer's process."""
        return self._process.pid

    def check_architecture(self) -> None:
        """Wait until the process has built the scorer and looked at the checkpoint, and let it begin.

        Raises:
            TierstreamError: one of them differs from the settings, or the process has ended.
        """
        try:
            problem = receive(self._connection)
        except ConnectionError as error:
            raise TierstreamError(
                "the scorer's process ended while it started", "start the worker again; memory may have run out"
            ) from error
        if problem is not None:
            raise error_of(problem)
        send(self._connection, "begin")

    def close(self) -> None:
        """Let the process end, and wait until it has."""
        self._caller.close()
        self._process.wait(END_SECONDS)

    async def process(self, batch: RecordBatch) -> None:
        """Score and learn one chunk."""
        records = [(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in batch.records]
        await self._caller.call("process", batch.topic, batch.partition, records)

    async def start_offset(self) -> int:
        """Return the input offset to resume at."""
        offset: int = await self._caller.call("start_offset")
        return offset

    def durable_through(self) -> int:
        """Return the input offset that may be committed, as of the last answer: it only grows."""
        return self._durable

    async def take_over_when_assigned(self, assigned: bool) -> None:
        """Take the scorer over where its partition is this worker's."""
        await self._caller.call("take_over_when_assigned", assigned)

    async def follow(self) -> int | None:
        """Take over what changed beside the stream; return where to read again from, if anywhere."""
        offset: int | None = await self._caller.call("follow")
        return offset

    async def checkpoint(self) -> None:
        """Write a checkpoint where there is something new."""
        await self._caller.call("checkpoint")

    async def checkpoint_when_idle(self) -> None:
        """Write a checkpoint where something changed and then nothing happened for a while."""
        await self._caller.call("checkpoint_when_idle")

    def forget(self) -> None:
        """Give the scorer up."""
        self._status = None
        self._caller.tell("forget")

    def status(self) -> dict[str, Any] | None:
        """Return the learner's figures where this worker owns the scorer; at most a second old."""
        return self._status

    def paused_since(self) -> str | None:
        """Return when learning was paused, None where it is not."""
        return self._pause.since()

    def _take(self, news: tuple[Any, ...]) -> None:
        durable, status, counted = news
        self._durable = durable
        if status is not None:
            self._status = orjson.loads(status)
        for name, arguments in counted:
            getattr(self._metrics, name)(*arguments)
