"""A part that ends is started again after a growing pause, until it has ended too often; then all of it stops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.config import load, setting_fields
from schemas.errors import TierstreamError
from streams.stack.supervisor import RESTARTS, RESTARTS_WITHIN_SECONDS, Part, as_variables

ENDS = "import os; print('started with', os.environ['WORD']); raise SystemExit(3)"
RUNS = "import time; print('running', flush=True); time.sleep(600)"
IGNORES = "import signal, time; signal.signal(15, signal.SIG_IGN); print('running', flush=True); time.sleep(600)"


class Clock:
    """Time that passes when it is told to; stands in for the module."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Trial:
    """A part whose program is a line of Python, with a clock of its own."""

    def __init__(self, folder: Path, code: str) -> None:
        package = folder / "streams"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "cli.py").write_text(code)
        self.clock = Clock()
        self.said: list[str] = []
        environment = {"PYTHONPATH": str(folder), "WORD": "this", "PATH": os.environ["PATH"]}
        # A part is `-m streams.cli`, which is found here before it is found where it belongs.
        self.part = Part("worker", ["worker"], environment, folder / "logs" / "worker.log")

    def ended(self) -> None:
        """Wait until the process has ended by itself."""
        assert self.part.process is not None
        self.part.process.wait(30)

    def look(self) -> None:
        """Look after the part once."""
        self.part.keep_running(self.said.append)

    def starts_again_after(self, seconds: float) -> bool:
        """Whether the part stays down for a bit less than the time, and is up after it."""
        self.look()
        before = self.part.process
        self.clock.now += seconds - 0.01
        self.look()
        early = self.part.process
        self.clock.now += 0.02
        self.look()
        return (before, early) == (None, None) and self.part.process is not None


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Trial]:
    made = Trial(tmp_path, getattr(request, "param", ENDS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("streams.stack.supervisor.time", made.clock)
    yield made
    made.part.stop(0.1)


def running(trial: Trial) -> None:
    """Start the part and wait until its program says that it runs."""
    trial.part.start()
    while "running" not in trial.part.last_line():
        assert trial.part.process is not None
        assert trial.part.process.poll() is None, trial.part.last_line()


def test_output_and_environment_are_the_parts(trial: Trial) -> None:
    trial.part.start()
    trial.ended()
    assert trial.part.log.read_text() == "started with this\n"
    trial.part.start()
    trial.ended()
    assert trial.part.log.read_text() == "started with this\n" * 2


def test_a_part_that_ends_is_started_again_after_a_pause_that_doubles(trial: Trial) -> None:
    trial.part.start()
    for pause in (0.5, 1.0, 2.0, 4.0):
        trial.ended()
        assert trial.starts_again_after(pause)
    assert [line.split("again ")[1].split(" (")[0] for line in trial.said] == ["in 0.5 s", "in 1 s", "in 2 s", "in 4 s"]
    assert trial.said[0].startswith("the worker ended with code 3, starting it again")
    assert str(trial.part.log) in trial.said[0]


def test_a_part_that_ends_too_often_is_given_up_with_its_last_words(trial: Trial) -> None:
    trial.part.start()
    for pause in (0.5, 1.0, 2.0, 4.0):
        trial.ended()
        assert trial.starts_again_after(pause)
    trial.ended()
    with pytest.raises(TierstreamError, match=r"the worker ended 5 times within 120 s: started with this; look at"):
        trial.look()


def test_ends_of_long_ago_do_not_count_and_the_pause_is_the_first_again(trial: Trial) -> None:
    trial.part.start()
    for _ in range(2 * RESTARTS):
        trial.ended()
        trial.clock.now += RESTARTS_WITHIN_SECONDS + 1
        assert trial.starts_again_after(0.5)


@pytest.mark.parametrize("trial", [RUNS], indirect=True)
def test_a_part_that_runs_is_left_alone_and_stops_when_told(trial: Trial) -> None:
    running(trial)
    process = trial.part.process
    trial.look()
    assert trial.part.process is process
    assert trial.said == []
    trial.part.stop(30)
    assert process is not None
    assert process.returncode == -15
    trial.part.stop(30)


@pytest.mark.parametrize("trial", [IGNORES], indirect=True)
def test_a_part_that_does_not_stop_is_ended_by_force(trial: Trial) -> None:
    running(trial)
    trial.part.stop(0.2)
    assert trial.part.process is not None
    assert trial.part.process.returncode == -9


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("starting\nerror: no broker\nTraceback\n", "no broker"),
        ("error: first\nerror: second\nbye\n", "second"),
        ("one\ntwo\n\n", "two"),
        ("\n", "it left no log"),
        (None, "it left no log"),
    ],
)
def test_the_last_words_are_the_last_error_or_the_last_line(tmp_path: Path, log: str | None, line: str) -> None:
    path = tmp_path / "worker.log"
    if log is not None:
        path.write_text(log)
    assert Part("worker", [], {}, path).last_line() == line


def test_parts_get_the_settings_in_effect_with_broker_and_port(tmp_path: Path) -> None:
    """What a flag or a file set for `up` holds in the worker, which reads nothing but the environment."""
    file = tmp_path / "mine.toml"
    file.write_text(
        '[topics]\nprefix = "p-"\nretention = "forever"\n[pairs]\none_to_one = false\n[web]\ntoken = "secret"\n'
    )
    settings = load(file, {"TIERSTREAM_SCORER__RANK": "8"}, {"data_dir": str(tmp_path)}).settings
    variables = as_variables(settings, "127.0.0.1:5", 77)
    there = load(None, variables, {})
    changed = {"kafka": {"bootstrap_servers": "127.0.0.1:5"}, "web": {"port": 77}}
    expected = settings.model_copy(
        update={name: getattr(settings, name).model_copy(update=values) for name, values in changed.items()}
    )
    assert there.settings == expected
    assert there.settings.scorer.rank == 8
    given = {key for key, _ in setting_fields() if there.sources[key] != "default"}
    absent = {key for key, _ in setting_fields()} - given
    secured = ("sasl_username", "sasl_password", "sasl_password_file", "ssl_cafile", "ssl_certfile", "ssl_keyfile")
    secured += ("oauth_token_url", "oauth_scope", "oauth_token_command")
    others = {"state_dir", "cache_dir", "pairs.user_confidence", "web.token_file", "serving.url", "serving.api_key"}
    assert absent == others | {f"kafka.{name}" for name in secured}
