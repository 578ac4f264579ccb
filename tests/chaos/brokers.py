"""Apache Kafka for the fault suite: one node or three, killed and started again on the same data."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from schemas.config import cache_folder
from schemas.settings import Settings
from streams.broker.embedded import say_to_stderr
from streams.broker.jars import kafka_jars
from streams.broker.java import find_java
from streams.broker.kafka import new_cluster_id, server_properties
from streams.broker.launch import free_port
from streams.broker.probe import is_ready
from tests.chaos.proxy import LOOPBACK, Loop, Proxy

LINKS = 2
"""Ways by which workers reach each node; each can be cut without the other."""


@dataclass(frozen=True)
class Ports:
    """Where one node listens."""

    direct: int
    """For the producer, the verifier and the other nodes: never cut."""
    controller: int
    links: tuple[int, ...]
    proxies: tuple[int, ...]
    """What the links are advertised as."""


class Node:
    """One broker and controller."""

    def __init__(self, folder: Path, number: int, ports: Ports, voters: list[Ports], cluster_id: str) -> None:
        self.ports = ports
        self.process: subprocess.Popen[bytes] | None = None
        self._folder = folder / f"node-{number}"
        self._folder.mkdir(parents=True)
        self._config = self._folder / "server.properties"
        self._config.write_text(self._properties(number, voters), "utf-8")
        self._run = _java(self._folder)
        command = [*self._run, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._config)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)

    def start(self) -> None:
        """Start the node; it is not awaited."""
        with (self._folder / "console.log").open("ab") as output:
            self.process = subprocess.Popen(
                [*self._run, "kafka.Kafka", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )

    def end(self, how: signal.Signals) -> None:
        """Send a signal and wait for the end."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)

    def _properties(self, number: int, voters: list[Ports]) -> str:
        listeners = {"DIRECT": (self.ports.direct, self.ports.direct)}
        for index, (port, proxy) in enumerate(zip(self.ports.links, self.ports.proxies, strict=True)):
            listeners[f"LINK{index}"] = (port, proxy)
        copies, safe = (3, 2) if len(voters) == 3 else (1, 1)
        text = server_properties(self._folder / "data", self.ports.direct, self.ports.controller)
        lines = dict(line.split("=", 1) for line in text.splitlines())
        del lines["controller.quorum.bootstrap.servers"]
        lines |= {
            "node.id": str(number),
            "listeners": ",".join(f"{name}://{LOOPBACK}:{port}" for name, (port, _) in listeners.items())
            + f",CONTROLLER://{LOOPBACK}:{self.ports.controller}",
            "advertised.listeners": ",".join(f"{name}://{LOOPBACK}:{port}" for name, (_, port) in listeners.items()),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in [*listeners, "CONTROLLER"]),
            "inter.broker.listener.name": "DIRECT",
            "controller.quorum.voters": ",".join(
                f"{n}@{LOOPBACK}:{ports.controller}" for n, ports in enumerate(voters, start=1)
            ),
            "default.replication.factor": str(copies),
            "min.insync.replicas": str(safe),
            "offsets.topic.replication.factor": str(copies),
            "transaction.state.log.replication.factor": str(copies),
            "transaction.state.log.min.isr": str(safe),
            # A node that was killed is found missing soon: rounds are short.
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "1000",
        }
        return "".join(f"{key}={value}\n" for key, value in lines.items())


class Cluster:
    """The nodes, and the proxies between them and the workers; a context manager."""

    def __init__(self, folder: Path, count: int = 1, links: int = LINKS) -> None:
        self._loop = Loop()
        cluster_id = new_cluster_id()
        ports = [
            Ports(free_port(), free_port(), *(tuple(free_port() for _ in range(links)) for _ in range(2)))
            for _ in range(count)
        ]
        self.nodes = [Node(folder, n, own, ports, cluster_id) for n, own in enumerate(ports, start=1)]
        self.links = [[Proxy(self._loop, own.proxies[link], own.links[link]) for own in ports] for link in range(links)]

    def __enter__(self) -> Cluster:
        for node in self.nodes:
            node.start()
        self.wait_until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            with contextlib.suppress(ProcessLookupError):
                node.end(signal.SIGKILL)
        self._loop.close()

    @property
    def bootstrap(self) -> str:
        """Addresses that are never cut."""
        return ",".join(f"{LOOPBACK}:{node.ports.direct}" for node in self.nodes)

    def link(self, number: int) -> str:
        """Addresses by way of the proxies of one link."""
        return ",".join(f"{LOOPBACK}:{node.ports.proxies[number]}" for node in self.nodes)

    def wait_until_ready(self, seconds: float = 300.0) -> None:
        """Wait until every node answers.

        Raises:
            TimeoutError: one does not.
        """
        deadline = time.monotonic() + seconds
        for node in self.nodes:
            while not asyncio.run(is_ready(f"{LOOPBACK}:{node.ports.direct}")):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the node at {node.ports.direct} does not answer")
                time.sleep(0.1)


def _java(folder: Path) -> list[str]:
    logging = folder / "log4j2.xml"
    logging.write_text(
        '<Configuration status="ERROR"><Appenders><Console name="out"><PatternLayout pattern="%d %p %m%n"/></Console>'
        '</Appenders><Loggers><Root level="WARN"><AppenderRef ref="out"/></Root></Loggers></Configuration>',
        "utf-8",
    )
    java = find_java()
    options = ["-Xmx320m", "-XX:+UseSerialGC", f"-Dlog4j2.configurationFile={logging}"]
    if java.version >= 24:
        options += ["--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED"]
    cache = cache_folder(Settings(cache_dir=os.environ.get("TIERSTREAM_CACHE_DIR")))
    return [str(java.path), *options, "-cp", os.pathsep.join(map(str, kafka_jars(cache, say_to_stderr)))]
