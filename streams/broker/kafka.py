"""Apache Kafka as one KRaft node on loopback: its files, and the command that starts it."""

from __future__ import annotations

import base64
import os
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

from schemas.config import cache_folder
from schemas.errors import BrokerError
from schemas.settings import Settings
from streams.broker.jars import kafka_jars
from streams.broker.java import find_java
from streams.broker.launch import LOOPBACK, Launch, free_port
from trainers.files import write_atomically

_FORMAT_TIMEOUT_SECONDS = 120

_LOGGING = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="ERROR">
  <Appenders>
    <RollingFile name="file" fileName="{folder}/kafka.log" filePattern="{folder}/kafka.log.%i">
      <PatternLayout pattern="%d{{ISO8601}} %p %m (%c{{1}})%n"/>
      <SizeBasedTriggeringPolicy size="10MB"/>
      <DefaultRolloverStrategy max="3"/>
    </RollingFile>
  </Appenders>
  <Loggers>
    <Root level="INFO"><AppenderRef ref="file"/></Root>
  </Loggers>
</Configuration>
"""


def server_properties(data: Path, port: int, controller_port: int) -> str:
    """Return the configuration of one node that is both broker and controller."""
    properties = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.bootstrap.servers": f"{LOOPBACK}:{controller_port}",
        "log.dirs": data,
        # A topic that a reader makes by asking for it has the wrong partition count.
        "auto.create.topics.enable": "false",
        "default.replication.factor": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "offsets.retention.minutes": 60 * 24 * 365,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
    }
    return "".join(f"{key}={value}\n" for key, value in properties.items())


def prepare(settings: Settings, folder: Path, port: int, say: Callable[[str], None]) -> Launch:
    """Fetch Apache Kafka if need be, write its files and format its storage once.

    Raises:
        JarsUnavailableError: the jars cannot be fetched.
        BrokerError: no Java, or the storage cannot be formatted.
    """
    jars = kafka_jars(cache_folder(settings), say)
    java = find_java()
    data, logs = folder / "kafka", folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    config, logging = folder / "server.properties", folder / "log4j2.xml"
    write_atomically(config, server_properties(data, port, free_port()).encode())
    write_atomically(logging, _LOGGING.format(folder=logs).encode())
    run = [
        str(java.path),
        f"-Xmx{settings.broker.heap_mib}m",
        "-XX:+UseSerialGC",
        f"-Dlog4j2.configurationFile={logging}",
    ]
    if java.version >= 24:
        run += ["--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED"]
    run += ["-cp", os.pathsep.join(map(str, jars))]
    if not (data / "meta.properties").exists():
        _format(run, config)
    return Launch([*run, "kafka.Kafka", str(config)], (logs / "console.log", logs / "kafka.log"))


def new_cluster_id() -> str:
    """Return 16 random bytes in URL-safe base64, as Kafka names a cluster.

    Never with a hyphen first, as one in 64 has: the storage tool takes it for an option.
    """
    name = "-"
    while name.startswith("-"):
        name = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return name


def _format(run: list[str], config: Path) -> None:
    command = [*run, "kafka.tools.StorageTool", "format", "--standalone", "-t", new_cluster_id(), "-c", str(config)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FORMAT_TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise BrokerError(f"formatting Kafka's storage took over {_FORMAT_TIMEOUT_SECONDS} seconds") from error
    if done.returncode != 0:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()] or ["no reason given"]
        raise BrokerError(f"Kafka's storage cannot be formatted: {lines[0]}", f"look at {config}")
