"""`tierstream serve` and promotions, with real versions of a tiny model and a real server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ServingError
from schemas.settings import Settings
from tests.serve import Serve, ask, status_of
from tests.trainers.jobs import tiny
from tests.trainers.jobs.running import run
from trainers import promotion
from trainers.serving import keep_up, refusals
from trainers.versions import VersionStore

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.timeout(600),
]

WAIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A data directory and its two versions of one line, neither of them in use."""
    data_dir = tmp_path_factory.mktemp("trained")
    names = []
    for seed in range(2):
        wanted = tiny.settings(base, seed=seed, epochs=3)
        _, result = run(tiny.job(data_dir, "sft", tiny.traces(40, start=40 * seed), wanted))
        names.append(result["version"])
    shutil.rmtree(data_dir / "jobs")
    (data_dir / "models" / "policy" / "in-use.json").unlink(missing_ok=True)
    return data_dir, names


@pytest.fixture
def data_dir(trained: tuple[Path, list[str]], tmp_path: Path) -> Path:
    shutil.copytree(trained[0], tmp_path / "data")
    return tmp_path / "data"


def settings(data_dir: Path, base: Path, url: str | None = None) -> Settings:
    given = tiny.settings(base).model_dump()
    return Settings.model_validate({**given, "data_dir": str(data_dir), "serving": {"url": url}})


def comes(condition: Callable[[], Any]) -> float:
    """Wait until something holds, and return how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < WAIT_SECONDS, "waited in vain"
        time.sleep(0.1)
    return time.monotonic() - began


def test_a_running_server_follows_promotions_and_rollbacks_byte_for_byte(
    data_dir: Path, base: Path, trained: tuple[Path, list[str]]
) -> None:
    first, second = trained[1]
    has = settings(data_dir, base)
    with Serve(data_dir, base) as server:
        of_base = ask(server.url, "tierstream")
        assert of_base[0].endswith("-base")
        answers = {of_base}
        for version in (first, second):
            promotion.promote(has, version, "better")
            took = comes(lambda version=version: ask(server.url, "tierstream")[0] == version)
            print(f"promotion is followed after {took:.1f} s")
            answers.add(ask(server.url, "tierstream"))
        assert len({said for _, said in answers}) == 3, answers
        for version in (first, None):
            promotion.rollback(has, "policy")
            comes(lambda version=version: ask(server.url, "tierstream")[0] == (version or "policy-base"))
            _, said = ask(server.url, "tierstream")
            assert said in {text for name, text in answers if name == version or (not version and name == of_base[0])}
        # Whatever is in use, each can be compared with it under its own name.
        assert {ask(server.url, version) for version in (first, second)} < answers
        assert server.stop() == 0


def test_no_model_but_the_registrys_is_loaded(data_dir: Path, base: Path) -> None:
    with Serve(data_dir, base) as server:
        for name in (str(base), "owner/model", "sft-000000000000", "../../base"):
            body = {"model": name, "messages": [{"role": "user", "content": "?"}]}
            status, said = status_of(f"{server.url}/v1/chat/completions", body)
            assert status == 404, said
            assert "ask for tierstream, or for one that /v1/models has" in said


def test_a_promotion_waits_for_the_server_and_a_killed_one_leaves_nothing_half_switched(
    data_dir: Path, base: Path, trained: tuple[Path, list[str]]
) -> None:
    first, second = trained[1]
    store = VersionStore(data_dir)
    with Serve(data_dir, base) as server:
        has = settings(data_dir, base, server.url)
        promotion.promote(has, first, "better")
        assert ask(server.url, first)[0] == first  # at once: it was loaded before it was in use
        said = ask(server.url, first)
        port = int(server.url.rpartition(":")[2])
    with pytest.raises(ServingError, match="cannot be asked at /v1/load_lora_adapter"):
        promotion.promote(has, second, "better")
    assert store.in_use("policy").version == first
    assert refusals(data_dir)["policy"].version == second
    with Serve(data_dir, base, port) as server:
        assert ask(server.url, "tierstream") == said
        keep_up(has.serving, store)
        promotion.promote(has, second, "better")
        comes(lambda: ask(server.url, "tierstream")[0] == second)
        assert refusals(data_dir) == {}


def test_a_version_that_cannot_be_loaded_is_told_and_the_one_before_is_served(
    data_dir: Path, base: Path, trained: tuple[Path, list[str]]
) -> None:
    first, second = trained[1]
    has = settings(data_dir, base)
    promotion.promote(has, first, "better")
    with Serve(data_dir, base) as server:
        away = base.rename(base.with_name("away"))
        try:
            with pytest.raises(ServingError, match=f"answers 503 at .*the base model of {second} is gone"):
                promotion.promote(settings(data_dir, base, server.url), second, "better")
            promotion.promote(has, second, "better")
            assert server.line(f"the base model of {second} is gone").endswith(f"; {first} is served")
            assert ask(server.url, "tierstream")[0] == first
        finally:
            away.rename(base)
        comes(lambda: ask(server.url, "tierstream")[0] == second)


def test_what_stops_a_start_is_one_line(data_dir: Path, base: Path) -> None:
    def told(port: str, base: str) -> str:
        command = [sys.executable, "-m", "streams.cli", "serve", "--data-dir", str(data_dir), "--port", port]
        variables = {**os.environ, "TIERSTREAM_JOBS__BASE_MODEL": base}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert told(port, str(base)) == (
            f"error: port {port} cannot be used: Address already in use; --port 0 picks a free one\n"
        )
    assert told("0", "/nowhere").startswith("error: base model '/nowhere': there is no such folder; ")
