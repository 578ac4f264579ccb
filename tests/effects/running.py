"""What the settings of the broker, the topics, the app and the trainer change."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from schemas.config import LoadedSettings
from schemas.errors import BrokerError, JarsUnavailableError
from schemas.events import JobUpdate, TrainingJob
from schemas.settings import Settings
from streams import topics
from streams.broker import kafka
from streams.broker.embedded import EmbeddedBroker
from streams.broker.java import Java
from streams.demo.play import demo_settings
from streams.kafka.admin import ensure_topics
from streams.kafka.lag import trainer_group
from streams.kafka.oauth import token_provider
from streams.kafka.options import client_options, faust_credentials
from streams.topics import ROLES, Role
from streams.training import service as trainer
from streams.training.launcher import LAUNCHERS
from streams.training.runner import Attempts
from streams.worker import role as role_process
from streams.worker.role_app import TierstreamApp
from tests.streams.offline import offline_app, record

Seen = Any

# Reaching the broker


def _readable(value: Any) -> Any:
    """Return the value where two of the same compare as equal."""
    certificates = getattr(value, "get_ca_certs", None)
    return sorted(certificates(binary_form=True)) if certificates else str(value)


def client(settings: Settings) -> Seen:
    """Return how aiokafka's clients and Faust's reach the broker."""
    options = {name: _readable(value) for name, value in client_options(settings).items()}
    credentials = faust_credentials(settings)
    given = {} if credentials is None else vars(credentials)
    with offline_app(settings, "join") as (app, _):
        return options, {name: _readable(value) for name, value in given.items()}, app.conf.broker


def token_asked(settings: Settings) -> Seen:
    """Return what is asked of the token endpoint."""
    asked: list[Any] = []

    def opened(_: Any, request: urllib.request.Request, **__: Any) -> Any:
        asked.append((request.full_url, request.data))
        return BytesIO(b"a.b.c")

    token_provider.cache_clear()  # as in a process of its own
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(urllib.request.OpenerDirector, "open", opened)
        asyncio.run(client_options(settings)["sasl_oauth_token_provider"].token())
    return asked


def token_of_a_command(settings: Settings) -> Seen:
    """Return the token that clients show."""
    return asyncio.run(client_options(settings)["sasl_oauth_token_provider"].token())


def own_certificate(settings: Settings) -> Seen:
    """Return which certificate and key are shown to the broker, and whether a missing one is told by name."""
    chain: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.access", lambda path, mode: True)
        patch.setattr(ssl.SSLContext, "load_cert_chain", lambda self, *files, **more: chain.append((files, more)))
        client_options(settings)
    return chain


def groups(settings: Settings) -> Seen:
    seen = []
    for role in ROLES:
        with offline_app(settings, role) as (app, _):
            seen.append((app.conf.id, [table.changelog_topic_name for table in app.tables.values()]))
    return seen, trainer_group(settings)


def of_every_role(settings: Settings, look: Callable[[TierstreamApp], Seen]) -> Seen:
    """Return what every role's app shows."""
    seen = {}
    for role in ROLES:
        with offline_app(settings, role) as (app, _):
            seen[role] = look(app)
    return seen


def configured(*names: str) -> Callable[[Settings], Seen]:
    """Return what shows values of Faust's configuration."""

    def observe(settings: Settings) -> Seen:
        return of_every_role(settings, lambda app: [str(getattr(app.conf, name)) for name in names])

    return observe


def transport(*names: str) -> Callable[[Settings], Seen]:
    """Return what shows options of the transport."""

    def observe(settings: Settings) -> Seen:
        return of_every_role(settings, lambda app: [getattr(app.transport_options, name) for name in names])

    return observe


# Topics


class NewCluster:
    """An admin client of a broker without topics."""

    def __init__(self, **_: Any) -> None:
        self.topics: dict[str, Any] = {}

    async def start(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Disconnect."""

    async def describe_topics(self) -> list[dict[str, Any]]:
        """Return what is there."""
        return [
            {"topic": name, "error_code": 0, "partitions": range(new.num_partitions)}
            for name, new in self.topics.items()
        ]

    async def describe_configs(self, _: list[Any]) -> list[Any]:
        """Tell nothing, as a broker does that does not let us look."""
        return []

    async def create_topics(self, new: list[Any]) -> Any:
        """Create them all."""
        self.topics |= {one.name: one for one in new}
        return type("Response", (), {"topic_errors": ()})


def created_topics(settings: Settings) -> Seen:
    cluster = NewCluster()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.kafka.admin.AIOKafkaAdminClient", lambda **_: cluster)
        asyncio.run(ensure_topics(settings, topics.topic_specs(settings)))
    return [(t.name, t.num_partitions, t.replication_factor, t.topic_configs) for t in cluster.topics.values()]


# The worker


def timers(settings: Settings) -> Seen:
    """Return every timer's interval."""
    seen: dict[tuple[Role, str], float] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            TierstreamApp, "every", lambda self, seconds, name, body: seen.update({(self.role, name): seconds})
        )
        of_every_role(settings, lambda app: None)
    return seen


def folders_of_tables(settings: Settings) -> Seen:
    """Return where the databases of tables and features lie, from here."""

    def open_them(app: TierstreamApp) -> None:
        for table in app.tables.values():
            table.data._db_for_partition(0).close()

    of_every_role(settings, open_them)
    return sorted(str(path.parent.relative_to(Path.cwd())) for path in Path.cwd().rglob("CURRENT"))


def block_caches(settings: Settings) -> Seen:
    return of_every_role(
        settings, lambda app: [table.data.rocksdb_options.block_cache_size for table in app.tables.values()]
    )


def standbys(settings: Settings) -> Seen:
    return of_every_role(settings, lambda app: app.assignor.replicas)


def started_role(settings: Settings) -> Seen:
    """Return what a role's process is told when it starts: how long it may drain, and what is logged."""
    seen: list[Any] = []
    loggers = [logging.getLogger(name) for name in ("root", "aiokafka", "faust", "mode")]
    levels = [logger.level for logger in loggers]
    to_read = BytesIO(settings.model_dump_json().encode() + b"\nbegin\n")
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as listener:
        patch.setattr("mode.loop.use", lambda _: None)
        patch.setattr("faulthandler.enable", lambda: None)
        for name in ("end_with_parent", "limit_arenas", "freeze_collector"):
            patch.setattr(role_process, name, lambda *_: None)
        patch.setattr(logging.root, "handlers", [])
        patch.setattr(sys, "argv", ["role", "join", str(os.dup(listener.fileno())), str(os.getppid())])
        patch.setattr(sys, "stdin", SimpleNamespace(buffer=to_read))
        patch.setattr(role_process.Worker, "execute_from_commandline", lambda self: seen.append(self.drain_timeout))
        role_process.main()
    seen.append([logger.level for logger in loggers])
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    return seen


# The embedded broker


def launched_kafka(settings: Settings) -> Seen:
    """Return the command that starts Apache Kafka."""
    folder = Path("broker")
    (folder / "kafka").mkdir(parents=True)
    (folder / "kafka" / "meta.properties").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kafka, "kafka_jars", lambda cache, say: [cache / "kafka.jar"])
        patch.setattr(kafka, "find_java", lambda: Java(Path("java"), 21))
        return kafka.prepare(settings, folder, 9, print).command


def embedded_broker(settings: Settings) -> Seen:
    """Return which broker starts, and where, on a machine that cannot fetch Apache Kafka."""

    def no_jars(*_: Any) -> list[Path]:
        raise JarsUnavailableError("no way to Maven Central")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kafka, "kafka_jars", no_jars)
        try:
            with EmbeddedBroker(settings, lambda line: None) as broker:
                return broker.kind, broker.bootstrap
        except BrokerError as error:
            return str(error)


# The trainer


class Requests:
    """A consumer that finds a training job for each of some tiers, and then no more."""

    def __init__(self, *tiers: str) -> None:
        self._tiers = tiers

    def __call__(self, *_: str, **options: Any) -> Self:
        self.options = options
        return self

    of = __call__

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""

    async def commit(self, offsets: Any) -> None:
        """Commit."""

    async def __aiter__(self) -> AsyncIterator[Any]:
        for offset, tier in enumerate(self._tiers):
            fields = {"job_id": f"{tier}-1", "tier": tier, "dataset_path": "x", "dataset_sha256": "0"}
            more = {"example_count": 1, "base_model": "m", "settings": {}, "requested_at": 1}
            yield record(TrainingJob.model_validate({**fields, **more}).to_json(), offset)


class KeptUpdates:
    """A producer that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[JobUpdate] = []

    def __call__(self, _: Settings) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""

    async def send(self, topic: str, event: JobUpdate) -> None:
        """Keep an update."""
        self.sent.append(event)


def trained(settings: Settings, consumer: Requests, *command: str) -> list[JobUpdate]:
    """Return what a trainer tells of jobs whose process is `command`."""
    producer = KeptUpdates()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "Consumer", consumer)
        patch.setattr(trainer, "Producer", producer)
        patch.setattr("streams.training.runner.POLL_SECONDS", 0.01)
        asyncio.run(trainer.work(settings, lambda tier, folder: list(command)))
    return producer.sent


def crashing_job(settings: Settings) -> Seen:
    """Return the last update of a job whose process ends without a result."""
    consumer = Requests("dpo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Attempts, "pause_before", lambda self, attempt: 0.0)
        last = trained(settings, consumer, "false")[-1]
    return last.state, last.attempt, last.error, consumer.options["session_timeout_ms"]


def pauses(settings: Settings) -> Seen:
    """Return how long a trainer waits before each further try of a job whose process crashes."""
    seen = []

    def no_pause(self: Attempts, attempt: int) -> float:
        seen.append(self.delay_seconds * attempt)
        return 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Attempts, "pause_before", no_pause)
        trained(settings, Requests("dpo"), "false")
    return seen


def job_command(settings: Settings) -> Seen:
    """Return the command of a job's process, on a machine that has Ray."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: name)
        return LAUNCHERS[settings.jobs.launcher](settings)("dpo", Path("/jobs/dpo-1"))[1:]


def demo_steps(settings: Settings) -> Seen:
    """Return the optimizer steps of the demo's jobs, and what they hold out."""
    jobs = _of_demo(settings).jobs
    return jobs.dpo.max_steps, jobs.sft.max_steps, jobs.gate.held_out_one_in, jobs.gate.held_out_size


def demo_patience(settings: Settings) -> Seen:
    """Return how long the demo's answers wait for one to the same query."""
    return _of_demo(settings).pairs.patience


def _of_demo(settings: Settings) -> Settings:
    sources = {"data_dir": "default", "kafka.bootstrap_servers": "default", "broker.port": "default"}
    loaded = LoadedSettings(settings, {**sources, "web.port": "default"})
    return demo_settings(settings, loaded, datetime(2026, 1, 1, tzinfo=UTC))
