"""The brokers that live tests run on, and which one it was."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from schemas.settings import BrokerSettings, Settings
from streams.broker.embedded import EmbeddedBroker
from streams.broker.launch import free_port
from streams.broker.probe import is_ready

KAFKA_IMAGE = "apache/kafka:4.3.1"
BROKER_KEY = pytest.StashKey[str]()


@dataclass(frozen=True)
class LiveBroker:
    bootstrap: str
    kind: str
    """`external`, `docker`, `kafka` or `lite`."""


def _docker_runs() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode == 0


def _wait_for_metadata(bootstrap: str, timeout_seconds: float = 90) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not asyncio.run(is_ready(bootstrap)):
        if time.monotonic() > deadline:
            pytest.fail(f"broker {bootstrap} does not answer")
        time.sleep(0.2)


def _docker_broker() -> Iterator[LiveBroker]:
    from testcontainers.core.container import DockerContainer

    port = free_port()
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, port)
    for name, value in {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "AUTO_CREATE_TOPICS_ENABLE": "false",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
    }.items():
        container.with_env(f"KAFKA_{name}", value)
    with container:
        _wait_for_metadata(f"127.0.0.1:{port}")
        yield LiveBroker(f"127.0.0.1:{port}", "docker")


def _embedded_broker(folder: str, kind: str) -> Iterator[LiveBroker]:
    """Run the broker that `up` would; one that should start but does not is a failure."""
    settings = Settings(
        data_dir=folder,
        cache_dir=os.environ.get("TIERSTREAM_CACHE_DIR"),
        broker=BrokerSettings.model_validate({"kind": kind, "port": 0}),
    )
    with EmbeddedBroker(settings) as running:
        yield LiveBroker(running.bootstrap, running.kind)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[LiveBroker]:
    """A broker: the one that TIERSTREAM_TEST_BOOTSTRAP names, Docker's, the embedded Apache Kafka, or lite."""
    if bootstrap := os.environ.get("TIERSTREAM_TEST_BOOTSTRAP"):
        _wait_for_metadata(bootstrap)
        choice: Iterator[LiveBroker] = iter([LiveBroker(bootstrap, "external")])
    elif _docker_runs():
        choice = _docker_broker()
    else:
        choice = _embedded_broker(str(tmp_path_factory.mktemp("broker")), "auto")
    for live in choice:
        request.config.stash[BROKER_KEY] = f"{live.kind} at {live.bootstrap}"
        yield live


@pytest.fixture(scope="session")
def lite_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBroker]:
    """The fallback broker, for short cuts of live tests."""
    yield from _embedded_broker(str(tmp_path_factory.mktemp("lite")), "lite")


@pytest.fixture
def bootstrap(broker: LiveBroker) -> str:
    """The broker's `HOST:PORT`."""
    return broker.bootstrap


@pytest.fixture
def prefix() -> str:
    """A topics prefix that no other test has."""
    return f"t{uuid.uuid4().hex[:10]}-"


@pytest.fixture(autouse=True)
def _safe_path_of_a_command_ends_with_its_test() -> Iterator[None]:
    """A command takes the working directory from the path of all that this process starts later: other tests, too."""
    before = os.environ.get("PYTHONSAFEPATH")
    yield
    os.environ.pop("PYTHONSAFEPATH", None)
    if before is not None:
        os.environ["PYTHONSAFEPATH"] = before


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which broker the live tests ran on."""
    terminalreporter.write_line(f"live tests ran on: {config.stash.get(BROKER_KEY, 'no broker')}")
