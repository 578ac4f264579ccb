"""`tierstream worker`: prepares the broker, then runs each role as a process of its own, restarted when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import CollectorRegistry
from pydantic import SecretStr

from schemas.errors import TierstreamError
from schemas.settings import Settings
from streams import topics
from streams.audit.accounts import together
from streams.audit.deployment import alone, ask_deployment
from streams.history.legacy import tell_of_old_traces
from streams.kafka.admin import ensure_topics
from streams.process import EXIT_REFUSED, freeze_collector, log_to_stderr
from streams.stack.supervisor import Part
from streams.state.belonging import check_belonging, check_committed
from streams.state.manifest import check_state, make_data_dir, state_folder
from streams.state.scorer_log import begin_log
from streams.state.upgrade_check import refuse_of_before
from streams.state.web_token import bearer
from streams.state.workers import Announcement
from streams.topics import Role
from streams.training.model_versions import publish_now
from streams.worker.chronicle import keep_telling
from streams.worker.exposition import StateCollector, deployment_families, of_roles
from streams.worker.observer import Observer
from streams.worker.status import settings_in_effect
from streams.worker.web import WorkerWeb

log = logging.getLogger("tierstream")

LOOK_SECONDS = 0.2
ACCOUNT_SECONDS = 2.0
"""A role that does not answer for so long is reported as not ready."""


_HEADERS = {"Accept": "application/openmetrics-text, */*"}


class RoleProcess(Part):
    """A role's process; its output is the worker's own.

    Args:
        role: which.
        settings: of the worker.
    """

    def __init__(self, role: Role, settings: Settings) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Words in place of a file: its output is the worker's own.
        super().__init__(role, [], dict(os.environ), Path("the worker's own"))
        # Not by the command line or the environment, which others can read.
        self._settings = orjson.dumps(settings.model_dump(), default=SecretStr.get_secret_value) + b"\n"
        self._begun = False

    @property
    def url(self) -> str:
        """Where the role answers."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def start(self) -> None:
        """Start the process, to begin with `begin`."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streams.worker.role", self.name, str(self._listener.fileno()), str(os.getpid())],
            pass_fds=[self._listener.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C is for the worker: roles are told to stop by it.
            process_group=0,
        )
        self._starts.append(time.monotonic())
        self._write(self._settings)
        if self._begun:
            self.begin()

    def begin(self) -> None:
        """Let the process connect, and every one that follows it."""
        self._begun = True
        self._write(b"begin\n")

    def refusal(self) -> str | None:
        """Return why the process ended, where it would end the same way again."""
        if self.process is None or self.process.poll() != EXIT_REFUSED or self.process.stdout is None:
            return None
        said = self.process.stdout.read().decode(errors="replace").strip()
        return said.removeprefix("error: ") or f"role {self.name} ended: {self.last_line()}"

    def wait(self, timeout_seconds: float) -> None:
        """Wait until the process has ended, and end it by force after the timeout; it is not started again."""
        super().wait(timeout_seconds)
        self._close_pipes()
        self._listener.close()

    def let_go(self) -> None:
        """Forget the process, which has ended."""
        self._close_pipes()
        super().let_go()

    def last_line(self) -> str:
        """Return where its log is."""
        return "its log is above"

    def _write(self, line: bytes) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; why is in its exit status
            self.process.stdin.write(line)
            self.process.stdin.flush()

    def _close_pipes(self) -> None:
        for pipe in () if self.process is None else (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Roles:
    """The roles of one worker, and what they say together."""

    def __init__(self, settings: Settings, roles: Sequence[Role]) -> None:
        self._settings = settings
        self.observer = Observer(settings)
        self.processes = {role: RoleProcess(role, settings) for role in roles}

    def start(self) -> None:
        """Start every process."""
        for process in self.processes.values():
            process.start()

    async def run(self, stopping: asyncio.Event) -> None:
        """Look after every process until told to stop.

        Raises:
            TierstreamError: a role keeps ending, or will not do better when it is started again.
        """
        while not stopping.is_set():
            for part in self.processes.values():
                if (reason := self.observer.refusal or part.refusal()) is not None:
                    raise TierstreamError(reason)
                part.keep_running(log.error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), LOOK_SECONDS)

    async def stop(self) -> int:
        """Stop every process at once; return the first exit status that tells of trouble."""
        for part in self.processes.values():
            part.tell_to_stop()
        for part in self.processes.values():
            await asyncio.to_thread(part.wait, self._settings.stream.drain_timeout + 5)
        codes = (part.process.returncode for part in self.processes.values() if part.process is not None)
        # A negative one names the signal that ended it by force: nobody but we sends SIGTERM, and that in order.
        return next((code if code > 0 else 128 - code for code in codes if code not in (0, -signal.SIGTERM)), 0)

    async def status(self) -> Mapping[str, Any]:
        """Return what all roles say together, with `roles`, `settings` and what was observed."""
        told = await asyncio.gather(*(self._account(role) for role in self.processes))
        roles = {
            account["role"]: {name: account.get(name) for name in ("ready", "reason", "active")} for account in told
        }
        seen = self.observer.seen
        observed = {} if seen is None else {"observed": seen.as_dict()}
        if seen is not None and seen.topics_fault is not None:
            told = [*told, {"role": None, "ready": False, "reason": seen.topics_fault}]
        return together(told) | {"roles": roles, "settings": settings_in_effect(self._settings)} | observed

    async def deployment(self) -> Mapping[str, Any]:
        """Return what all workers say together; before this one has announced itself, what it says alone."""
        told = await ask_deployment(self._settings)
        return told if told["workers"] else alone(await self.status())

    async def metrics(self) -> CollectorRegistry:
        """Return the metrics of all roles, and of the deployment."""
        texts = await asyncio.gather(*(self._ask(role, "/metrics") for role in self.processes))
        told: dict[str, str] = {
            role: text.decode() for role, text in zip(self.processes, texts, strict=True) if text is not None
        }
        for role in self.processes.keys() - told.keys():
            told[role] = "# TYPE tierstream_ready gauge\ntierstream_ready 0.0\n# EOF\n"
        registry = CollectorRegistry()

        def families() -> Iterator[Metric]:
            yield from of_roles(told)
            if self.observer.seen is not None:
                yield from deployment_families(self.observer.seen.as_dict())

        registry.register(StateCollector(families))
        return registry

    async def _account(self, role: Role) -> dict[str, Any]:
        answer = await self._ask(role, "/status")
        if answer is None:
            return {"role": role, "ready": False, "reason": "starting, or not answering"}
        account: dict[str, Any] = orjson.loads(answer)
        return account

    async def _ask(self, role: Role, path: str) -> bytes | None:
        part = self.processes[role]
        if part.process is None or part.process.poll() is not None:
            return None
        timeout = aiohttp.ClientTimeout(total=ACCOUNT_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=_HEADERS | bearer(self._settings.web)) as session,
                session.get(part.url + path) as answer,
            ):
                return await answer.read() if answer.ok else None
        except (aiohttp.ClientError, TimeoutError):
            return None


def run(settings: Settings, roles: Sequence[Role] = topics.ROLES) -> None:
    """Run until SIGTERM or SIGINT; ends the process.

    Raises:
        TierstreamError: the broker, the topics, the data directory or the checkpoint do not allow a start, or a role
            keeps ending.
    """
    log_to_stderr(settings)
    make_data_dir(settings)
    # Before anything is made on the broker under a prefix that may be a mistake.
    check_state(settings, local=True)
    sys.exit(asyncio.run(_run(settings, roles)))


async def _run(settings: Settings, names: Sequence[Role]) -> int:
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    roles = Roles(settings, names)
    web, observing = WorkerWeb(settings, roles), None
    try:
        # Before the broker is prepared, as both take seconds.
        roles.start()
        port = await web.start()
        await prepare(settings)
        for part in roles.processes.values():
            part.begin()
        freeze_collector()
        observing = asyncio.create_task(roles.observer.run())
        with Announcement(settings, names, port) as announcement:
            telling = asyncio.create_task(keep_telling(settings, announcement, roles.status))
            try:
                await roles.run(stopping)
            finally:
                telling.cancel()  # or it would say once more that this worker runs
    finally:
        ended = await roles.stop()
        if observing is not None:
            observing.cancel()
            await roles.observer.note_last_commits()
        await web.stop()
    return ended


async def prepare(settings: Settings) -> None:
    """See that the broker has what the roles need.

    Raises:
        TierstreamError: it has not, and cannot be given it.
    """
    await refuse_of_before(settings)
    await ensure_topics(settings, topics.topic_specs(settings))
    await check_belonging(settings, state_folder(settings))
    await check_committed(settings)
    await begin_log(settings)
    await asyncio.to_thread(tell_of_old_traces, settings)
    await publish_now(settings)
