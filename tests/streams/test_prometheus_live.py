"""A real Prometheus on the shipped files: it scrapes with the token, loads the rules, and an alert fires and clears."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from streams.broker.launch import free_port
from streams.topics import ROLES
from tests.live import Deployment
from tests.streams.training_live import make_job
from tests.test_observability import CONFIG, RULES

pytestmark = [pytest.mark.live, pytest.mark.slow]

WAIT_SECONDS = 90.0


@contextmanager
def prometheus(folder: Path, worker_port: int, token: Path) -> Iterator[str]:
    """Run it with the shipped files, this worker and token in place of Compose's, and minutes as seconds."""
    faster = re.compile(r"\b(\d+)m\b")
    (folder / "rules.yml").write_text(faster.sub(r"\1s", (CONFIG / "prometheus-rules.yml").read_text("utf-8")))
    config = (CONFIG / "prometheus.yml").read_text("utf-8")
    for shipped, here in (
        ("/etc/prometheus/prometheus-rules.yml", str(folder / "rules.yml")),
        (", ".join(f'"{role}:8321"' for role in ROLES), f'"127.0.0.1:{worker_port}"'),
        ("/data/web-token", str(token)),
        ("interval: 15s", "interval: 1s"),
    ):
        assert shipped in config
        config = config.replace(shipped, here)
    (folder / "prometheus.yml").write_text(config)
    port = free_port()
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with (folder / "prometheus.log").open("wb") as output:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=output, stderr=output)
    try:
        yield f"http://127.0.0.1:{port}/api/v1"
    finally:
        process.terminate()
        process.wait(30)


def ask(api: str, path: str) -> Any:
    with urllib.request.urlopen(f"{api}/{path}", timeout=5) as answer:
        return json.loads(answer.read())["data"]


def wait_until(api: str, path: str, holds: Callable[[Any], bool]) -> Any:
    """Ask until the answer is as wanted.

    Raises:
        AssertionError: it is not within `WAIT_SECONDS`.
    """
    deadline, data = time.monotonic() + WAIT_SECONDS, None
    while time.monotonic() < deadline:
        try:
            if holds(data := ask(api, path)):
                return data
        except OSError:
            pass  # it is starting
        time.sleep(0.3)
    raise AssertionError(f"{path}: {data}")


def firing(data: Any) -> set[str]:
    return {alert["labels"]["alertname"] for alert in data["alerts"] if alert["state"] == "firing"}


@pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed: apt-get install prometheus"
)
def test_prometheus_scrapes_with_the_token_and_an_alert_fires_and_clears(
    bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    token = tmp_path / "web-token"
    with Deployment(bootstrap, prefix, tmp_path / "d", web={"token_file": str(token)}) as stream:
        worker = stream.worker()
        assert worker.get("/metrics")[0] == 401
        make_job(stream.settings, 1)  # its dataset alone: no trainer has seen it
        with prometheus(tmp_path, worker.port, token) as api:
            wait_until(api, "targets", lambda data: [one["health"] for one in data["activeTargets"]] == ["up"])
            rules = ask(api, "rules")["groups"][0]["rules"]
            assert [rule["name"] for rule in rules] == [rule["alert"] for rule in RULES]
            assert firing(wait_until(api, "alerts", lambda data: "TierstreamNoTrainer" in firing(data))) == {
                "TierstreamNoTrainer"
            }
            stream.start("trainer")
            wait_until(api, "alerts", lambda data: "TierstreamNoTrainer" not in firing(data))
            assert {rule["health"] for rule in ask(api, "rules")["groups"][0]["rules"]} == {"ok"}
