"""The broker of one test run: `python -m tests.broker FOLDER` runs it until it is told to stop, and prints its address.

A process of its own, because a run with `-n` has several that share it, none of which outlives the others for certain.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from schemas.settings import BrokerSettings, Settings
from streams.broker.embedded import EmbeddedBroker
from streams.broker.launch import free_port
from streams.broker.probe import is_ready
from tests import reaper

KAFKA_IMAGE = "apache/kafka:4.3.1"


@dataclass(frozen=True)
class LiveBroker:
    bootstrap: str
    kind: str
    """`external`, `docker`, `kafka` or `lite`."""


def wait_until_ready(bootstrap: str, timeout_seconds: float = 90) -> LiveBroker:
    """Wait for a broker that somebody else runs."""
    deadline = time.monotonic() + timeout_seconds
    while not asyncio.run(is_ready(bootstrap)):
        assert time.monotonic() < deadline, f"broker {bootstrap} does not answer"
        time.sleep(0.2)
    return LiveBroker(bootstrap, "external")


@contextmanager
def embedded_broker(folder: Path, kind: str) -> Iterator[LiveBroker]:
    """Run the broker that `up` would; one that should start but does not is a failure."""
    settings = Settings(
        data_dir=str(folder),
        cache_dir=os.environ.get("TIERSTREAM_CACHE_DIR"),
        broker=BrokerSettings.model_validate({"kind": kind, "port": 0}),
    )
    with EmbeddedBroker(settings) as running:
        yield LiveBroker(running.bootstrap, running.kind)


def broker_of_the_run() -> LiveBroker:
    """Return the run's broker: whichever of its processes asks first finds or starts it, and it ends with the run."""
    folder = reaper.run_folder() / "broker"
    folder.mkdir(exist_ok=True)
    with (folder / "starting").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (live := broker_in_use()) is None:
            external = os.environ.get("TIERSTREAM_TEST_BOOTSTRAP")
            live = wait_until_ready(external) if external else _start(folder)
            (folder / "address.json").write_text(json.dumps(asdict(live)))
    return live


def broker_in_use() -> LiveBroker | None:
    """Return the broker that a test of this run asked for, if one did."""
    address = reaper.run_folder() / "broker" / "address.json"
    return LiveBroker(**json.loads(address.read_bytes())) if address.exists() else None


def _start(folder: Path) -> LiveBroker:
    with (folder / "log").open("wb") as log:
        process = reaper.Outliving(
            [sys.executable, "-m", "tests.broker", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=Path(__file__).parents[1],
            process_group=0,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    process.stdout.close()
    assert line, f"the broker did not start: {(folder / 'log').read_text()[-3000:]}"
    return LiveBroker(**json.loads(line))


@contextmanager
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
        yield LiveBroker(wait_until_ready(f"127.0.0.1:{port}").bootstrap, "docker")


def _docker_runs() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode == 0


def main(folder: str) -> None:
    """Run Docker's broker, or else the embedded one, until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with _docker_broker() if _docker_runs() else embedded_broker(Path(folder), "auto") as live:
        print(json.dumps(asdict(live)), flush=True)
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
