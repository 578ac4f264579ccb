"""A deployment under test: worker and trainer as subprocesses on a real broker, and eyes on its topics."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.base import Event
from schemas.settings import Settings
from streams import topics
from streams.broker.launch import free_port
from streams.cli.main import main
from streams.kafka.admin import ensure_topics
from streams.kafka.lag import measure_lag

READY_SECONDS = 180.0
WAIT_SECONDS = 180.0
POLL_MS = 50
OWN_PROCESS = {"worker", "trainer"}


class Deployment:
    """One prefix on a broker, one data directory, and the processes that a test starts."""

    def __init__(self, bootstrap: str, prefix: str, data_dir: Path, **overrides: Any) -> None:
        values = {
            "data_dir": str(data_dir),
            "kafka": {"bootstrap_servers": bootstrap, "session_timeout": 6.0},
            "topics": {"prefix": prefix},
        }
        for section, fields in overrides.items():
            values[section] = {**values.get(section, {}), **fields}  # type: ignore[dict-item]
        self.values = values
        self.settings = Settings.model_validate(values)
        self.data_dir = data_dir
        self.bootstrap = bootstrap
        self.processes: list[Process] = []

    def __enter__(self) -> Deployment:
        asyncio.run(ensure_topics(self.settings, topics.topic_specs(self.settings)))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.end()

    def start(self, command: str, *arguments: str, **environment: str) -> Process:
        """Start `worker` or `trainer`."""
        process = Process(self, command, environment, len(self.processes), arguments)
        self.processes.append(process)
        return process

    def worker(self, *arguments: str, **environment: str) -> Process:
        """Start a worker and wait until it is ready."""
        process = self.start("worker", *arguments, **environment)
        process.wait_until_ready()
        return process

    def publish(self, topic: str, events: Iterable[Event | bytes], key: str | None = None) -> None:
        """Publish events keyed as their topic's contract says, or raw bytes under `key`."""
        from streams.contract import CONTRACTS

        field = CONTRACTS[topic].key

        async def run() -> None:
            async with AIOKafkaProducer(bootstrap_servers=self.bootstrap, max_request_size=2**23) as producer:
                sent = []
                for event in events:
                    raw = event if isinstance(event, bytes) else event.to_json()
                    of = key if isinstance(event, bytes) else str(getattr(event, str(field)))
                    name = self.settings.topic(topic)
                    sent.append(await producer.send(name, raw, key=None if of is None else of.encode()))
                await asyncio.gather(*sent)

        asyncio.run(run())

    def read(self, topic: str) -> list[dict[str, Any]]:
        """Read a topic from its start to its end, partition by partition."""
        return [orjson.loads(record.value) for record in self.records(self.settings.topic(topic)) if record.value]

    def records(self, name: str) -> list[Any]:
        """Read the raw records of a topic from its start to its end."""
        return records_of(name, bootstrap_servers=self.bootstrap)

    def wait_for(
        self, topic: str, enough: Callable[[list[dict[str, Any]]], bool], seconds: float = WAIT_SECONDS
    ) -> list[dict[str, Any]]:
        """Read a topic until `enough` holds.

        Raises:
            AssertionError: it does not within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not enough(values := self.read(topic)):
            for process in self.processes:
                process.must_run()
            assert time.monotonic() < deadline, f"{topic}: {len(values)} values: {values[-3:]}\n{self.logs()}"
            time.sleep(0.2)
        return values

    def wait_until_idle(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait until every role has acknowledged all that it reads: then all that follows from it is published.

        Raises:
            AssertionError: it does not come to that within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while waiting := [
            row for row in asyncio.run(measure_lag(self.settings)) if row.lag and row.group in self.roles
        ]:
            for process in self.processes:
                process.must_run()
            assert time.monotonic() < deadline, f"{waiting}\n{self.logs()}"
            time.sleep(0.1)

    @property
    def roles(self) -> set[str]:
        """The consumer groups of the worker's roles."""
        return {topics.group(self.settings, role) for role in topics.ROLES}

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line against this deployment, with further variables.

        In this process, but for those that set a process up for themselves.
        """
        variables = {**self.variables(), **environment}
        run = command_in_a_process if arguments[0] in OWN_PROCESS else command_here
        return run(arguments, variables)

    def variables(self) -> dict[str, str]:
        """Return the settings of this deployment as variables."""
        return dict(_variables(self.values, "TIERSTREAM")) | {"TIERSTREAM_DATA_DIR": str(self.data_dir)}

    def logs(self) -> str:
        """Return the ends of the processes' logs."""
        return "\n".join(f"--- {p.log.name}\n{p.log.read_text()[-3000:]}" for p in self.processes)


def records_of(name: str, **options: Any) -> list[Any]:
    """Read the raw records of a topic from its start to its end, partition by partition."""

    async def run() -> list[Any]:
        async with AIOKafkaConsumer(
            **options, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=POLL_MS
        ) as consumer:
            while not (partitions := consumer.partitions_for_topic(name)):
                await consumer._client.force_metadata_update()
                await consumer.topics()
            tps = [TopicPartition(name, partition) for partition in sorted(partitions)]
            consumer.assign(tps)
            found: dict[TopicPartition, list[Any]] = {tp: [] for tp in tps}
            while waiting := [tp for tp in tps if not await _at_the_end(consumer, tp)]:
                for tp, records in (await consumer.getmany(*waiting, timeout_ms=POLL_MS)).items():
                    found[tp] += records
            return [record for tp in tps for record in found[tp]]

    return asyncio.run(run())


async def _at_the_end(consumer: AIOKafkaConsumer, tp: TopicPartition) -> bool:
    """What a fetch says of the end is true on every broker; lite's answer to whoever asks for it falls short."""
    end = consumer.highwater(tp)
    return end is not None and await consumer.position(tp) >= end


def command_here(arguments: Sequence[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line in this process: what it prints and how it ends are as in one of its own."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in variables.items():
            patch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main(arguments)
    code = ended.value.code
    assert isinstance(code, int)
    texts = (stream.buffer.getvalue().decode() for stream in (out, err))
    return subprocess.CompletedProcess(arguments, code, *texts)


def command_in_a_process(arguments: Sequence[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "streams.cli", *arguments],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _variables(values: Mapping[str, Any], name: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        nested = f"{name}{'_' if name == 'TIERSTREAM' else '__'}{key.upper()}"
        if isinstance(value, Mapping):
            yield from _variables(value, nested)
        else:
            yield nested, str(value)


class Process:
    """A subprocess of the command line."""

    def __init__(
        self,
        deployment: Deployment,
        command: str,
        environment: dict[str, str],
        number: int,
        arguments: Sequence[str] = (),
    ) -> None:
        settings = self.settings = deployment.settings
        self.port = free_port()
        self.log = deployment.data_dir.parent / f"{deployment.data_dir.name}-{command}-{number}.log"
        self.expected_to_run = True
        variables = {
            "TIERSTREAM_DATA_DIR": settings.data_dir,
            "TIERSTREAM_STATE_DIR": str(deployment.data_dir.parent / f"state-{number}"),
            "TIERSTREAM_WEB__PORT": str(self.port),
        }
        variables |= deployment.variables()
        with self.log.open("wb") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", command, *arguments],
                env={**os.environ, **variables, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def url(self) -> str:
        """Where the worker's web server listens."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> tuple[int, bytes]:
        """Fetch a page; status 0 where nothing answers."""
        try:
            asked = urllib.request.Request(self.url + path, headers={"Accept": "application/openmetrics-text, */*"})
            with urllib.request.urlopen(asked, timeout=5) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return 0, b""

    def status(self) -> dict[str, Any]:
        """Return the worker's own account."""
        value: dict[str, Any] = orjson.loads(self.get("/status")[1])
        return value

    def wait_for_status(self, holds: Callable[[dict[str, Any]], bool], seconds: float = WAIT_SECONDS) -> dict[str, Any]:
        """Return the worker's account once it is as wanted, or as it is when the time is over."""
        deadline = time.monotonic() + seconds
        while not holds(status := self.status()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return status

    def wait_until_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait for `/readyz`."""
        deadline = time.monotonic() + seconds
        while self.get("/readyz")[0] != 200:
            self.must_run()
            assert time.monotonic() < deadline, f"not ready: {self.get('/readyz')}\n{self.log.read_text()[-5000:]}"
            time.sleep(0.1)

    def role(self, name: str) -> psutil.Process:
        """Return the process of one of a worker's roles."""
        children = psutil.Process(self.popen.pid).children()
        return next(child for child in children if {"streams.worker.role", name} <= set(child.cmdline()))

    def must_run(self) -> None:
        """Fail where the process ended by itself."""
        if self.expected_to_run:
            assert self.popen.poll() is None, f"ended with {self.popen.returncode}\n{self.log.read_text()[-5000:]}"

    def kill(self) -> None:
        """End it as a crash would."""
        self.expected_to_run = False
        self.popen.kill()
        self.popen.wait()

    def end(self, seconds: float = 30) -> int:
        """Tell it to stop, and wait for it."""
        self.expected_to_run = False
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(seconds)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        return self.popen.returncode
