"""A worker's roles: processes of their own, started again when they end, told of as one, and found by the audit."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from schemas.errors import TierstreamError
from schemas.settings import Settings
from streams.audit.accounts import together
from streams.process import EXIT_REFUSED
from streams.stack.supervisor import RESTARTS
from streams.state.workers import Announcement, announced
from streams.worker.exposition import of_roles
from streams.worker.role import EXIT_DRAIN_TIMEOUT
from streams.worker.service import RoleProcess, Roles
from tests.trainers.scorer.making import scorer_after
from trainers.pairs.funnel import empty_funnel
from trainers.scorer.checkpoint import CheckpointStore

BEGINS = """
import json, os, signal, socket, sys, time
from pathlib import Path
role = sys.argv[1]
settings = json.loads(sys.stdin.readline())
Path(f"{role}-{os.getpid()}.told").write_text(json.dumps(settings))
if not sys.stdin.readline():
    sys.exit(0)
Path(f"{role}-{os.getpid()}.begun").touch()
"""
"""A role's process in so far as the worker knows it."""

SERVES = (
    BEGINS
    + """
METRICS = "# TYPE tierstream_ready gauge\\ntierstream_ready 1.0\\n# EOF\\n"
listener = socket.socket(fileno=int(sys.argv[2]))
while True:
    connection, _ = listener.accept()
    asked = b""
    while b"\\r\\n\\r\\n" not in asked:
        asked += connection.recv(4096)
    account = {"role": role, "ready": True, "reason": None, "events": {"feedback": {role: 1}}}
    account["bearer"] = b"Bearer open sesame" in asked
    body = (METRICS if asked.startswith(b"GET /metrics") else json.dumps(account)).encode()
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    connection.close()
"""
)


def ends_with(code: int) -> str:
    return f"{BEGINS}\nsys.exit({code})\n"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what sets the program of every role: a role is `-m streams.worker.role`, which is found here first."""
    package = tmp_path / "streams" / "worker"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def set_to(code: str) -> None:
        (package / "role.py").write_text(code)

    return set_to


def settings_of(folder: Path, **sections: Any) -> Settings:
    return Settings.model_validate({"data_dir": str(folder / "data"), **sections})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes
            await asyncio.sleep(0.02)


def files(folder: Path, pattern: str) -> int:
    return len(list(folder.glob(pattern)))


# The processes


def test_a_role_begins_when_it_is_told_to_and_the_worker_tells_of_all_as_one(
    program: Callable[[str], None], tmp_path: Path
) -> None:
    program(SERVES)

    async def run() -> None:
        settings = settings_of(tmp_path, web={"token": "open sesame"}, kafka={"sasl_password": "of the broker"})
        roles = Roles(settings, ("join", "pairs"))
        roles.start()
        await until(lambda: files(tmp_path, "*.told") == 2)
        waiting = await roles.status()
        assert (waiting["ready"], waiting["reason"]) == (False, "join: starting, or not answering")
        assert files(tmp_path, "*.begun") == 0
        for part in roles.processes.values():
            part.begin()
        await until(lambda: files(tmp_path, "*.begun") == 2)
        found = await roles.status()
        assert (found["ready"], found["reason"]) == (True, None)
        assert found["events"] == {"feedback": {"join": 1, "pairs": 1}}
        assert found["roles"] == {role: {"ready": True, "reason": None, "active": None} for role in ("join", "pairs")}
        assert found["settings"]["scorer.rank"] == 32
        assert "open sesame" not in json.dumps(found)
        metrics = generate_latest(await roles.metrics()).decode()  # type: ignore[no-untyped-call]
        assert 'tierstream_ready{role="join"} 1.0\n' in metrics
        assert 'tierstream_ready{role="pairs"} 1.0\n' in metrics
        # They get all settings, secrets too, and neither by the command line nor by the environment.
        told = [json.loads(path.read_text()) for path in tmp_path.glob("*.told")]
        assert [Settings.model_validate(one) for one in told] == [settings] * 2
        for part in roles.processes.values():
            assert part.process is not None
            for file in ("cmdline", "environ"):
                content = Path(f"/proc/{part.process.pid}/{file}").read_bytes()
                assert not any(secret in content for secret in (b"open sesame", b"of the broker"))
        assert await roles.stop() == 0
        assert all(part.process and part.process.poll() is not None for part in roles.processes.values())
        gone = await roles.status()
        assert (gone["ready"], gone["roles"]["pairs"]["ready"]) == (False, False)
        metrics = generate_latest(await roles.metrics()).decode()  # type: ignore[no-untyped-call]
        assert 'tierstream_ready{role="pairs"} 0.0\n' in metrics

    asyncio.run(run())


def test_a_role_that_dies_is_started_again_answers_at_the_same_place_and_goes_on_at_once(
    program: Callable[[str], None], tmp_path: Path
) -> None:
    program(SERVES)

    async def run() -> None:
        roles = Roles(settings_of(tmp_path), ("join", "scorer"))
        roles.start()
        for part in roles.processes.values():
            part.begin()
        stopping = asyncio.Event()
        running = asyncio.create_task(roles.run(stopping))
        await until(lambda: files(tmp_path, "*.begun") == 2)
        join, scorer = roles.processes["join"], roles.processes["scorer"]
        assert join.process is not None
        assert scorer.process is not None
        pid, url = scorer.process.pid, scorer.url
        join.process.kill()
        await until(lambda: files(tmp_path, "join-*.begun") == 2)
        assert (await roles.status())["ready"] is True
        assert (scorer.process.pid, scorer.url) == (pid, url)  # nobody else is touched
        stopping.set()
        await running
        await roles.stop()

    asyncio.run(run())


def test_a_role_that_would_end_the_same_way_again_ends_the_worker_with_its_line(
    program: Callable[[str], None], tmp_path: Path
) -> None:
    program(f"{BEGINS}\nprint('error: the checkpoint has rank 8')\nsys.exit({EXIT_REFUSED})\n")

    async def run() -> None:
        roles = Roles(settings_of(tmp_path), ("traces",))
        roles.start()
        for part in roles.processes.values():
            part.begin()
        with pytest.raises(TierstreamError, match=r"^the checkpoint has rank 8$"):
            await asyncio.wait_for(roles.run(asyncio.Event()), 60)
        assert await roles.stop() == EXIT_REFUSED

    asyncio.run(run())
    assert files(tmp_path, "*.begun") == 1


def test_a_role_that_keeps_ending_ends_the_worker_by_name(
    program: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(ends_with(70))
    monkeypatch.setattr("streams.stack.supervisor.FIRST_PAUSE_SECONDS", 0.0)

    async def run() -> None:
        roles = Roles(settings_of(tmp_path), ("pairs",))
        roles.start()
        for part in roles.processes.values():
            part.begin()
        with pytest.raises(TierstreamError, match=f"the pairs ended {RESTARTS} times"):
            await asyncio.wait_for(roles.run(asyncio.Event()), 60)
        assert await roles.stop() == 70

    asyncio.run(run())
    assert files(tmp_path, "*.begun") == RESTARTS


def test_a_role_that_does_not_drain_says_so_by_its_exit_status(program: Callable[[str], None], tmp_path: Path) -> None:
    stopped = f"import signal, sys\nsignal.signal(15, lambda *_: sys.exit({EXIT_DRAIN_TIMEOUT}))\n"
    program(f"{stopped}{BEGINS}\ntime.sleep(600)\n")

    async def run() -> int:
        roles = Roles(settings_of(tmp_path), ("join",))
        roles.start()
        roles.processes["join"].begin()
        await until(lambda: files(tmp_path, "*.begun") == 1)
        return await roles.stop()

    assert asyncio.run(run()) == EXIT_DRAIN_TIMEOUT


def test_a_role_that_was_killed_is_told_of_by_the_exit_status(program: Callable[[str], None], tmp_path: Path) -> None:
    program(f"{BEGINS}\nos.kill(os.getpid(), signal.SIGKILL)\n")

    async def run() -> int:
        roles = Roles(settings_of(tmp_path), ("join",))
        roles.start()
        roles.processes["join"].begin()
        process = roles.processes["join"].process
        assert process is not None
        await until(lambda: process.poll() is not None)
        return await roles.stop()

    assert asyncio.run(run()) == 128 + 9


@pytest.mark.parametrize(
    ("worker", "words"), [(os.getpid(), b""), (os.getppid(), b"begin\n")], ids=["as it waits", "as it was starting"]
)
def test_a_role_whose_worker_has_gone_before_it_began_ends_without_connecting(
    tmp_path: Path, worker: int, words: bytes
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = subprocess.run(
            [sys.executable, "-m", "streams.worker.role", "traces", str(listener.fileno()), str(worker)],
            input=settings_of(tmp_path).model_dump_json().encode() + b"\n" + words,
            pass_fds=[listener.fileno()],
            capture_output=True,
            timeout=120,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, b"")


def test_a_role_that_may_not_start_says_why_in_one_line(tmp_path: Path) -> None:
    eight = Settings.model_validate({"scorer": {"rank": 8}}).scorer
    CheckpointStore(tmp_path / "data" / "scorer", eight).save(scorer_after(3, eight).snapshot())
    part = RoleProcess("scorer", settings_of(tmp_path))
    part.start()
    assert part.process is not None
    assert part.process.wait(120) == EXIT_REFUSED
    line = part.refusal()
    part.stop(0)
    assert line is not None
    assert "\n" not in line
    assert "rank 8" in line
    assert "rank 32" in line


# What they say together


def account(role: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "ready": True, "reason": None, **more}


def test_ready_is_who_is_ready_in_all_and_the_reason_names_the_role() -> None:
    assert together([])["ready"] is False
    assert together([account("join"), account("pairs")])["ready"] is True
    found = together([account("join"), account("pairs", ready=False, reason="recovering tables"), account("traces")])
    assert (found["ready"], found["reason"]) == (False, "pairs: recovering tables")
    # Accounts of workers have their reasons named already.
    assert together([{"ready": False, "reason": "pairs: starting"}])["reason"] == "pairs: starting"


def test_counts_are_added_and_what_one_role_tells_is_told() -> None:
    funnel = empty_funnel()
    funnel["widget"]["answers"] = 3
    found = together(
        [
            account("join", events={"feedback": {"joined": 3, "early": 1}}, embedding={"cache": 1}),
            account("join", events={"feedback": {"joined": 4}}, partitions={"feedback[0]": {"position": 1, "end": 2}}),
            account("scorer", scorer=None, learning_paused_since=None),
            account("scorer", scorer={"step": 7}, learning_paused_since="2026"),
            account("pairs", pair_funnel=funnel, partitions={"answers[0]": {"position": 3, "end": 3}}),
            account("pairs", pair_funnel=funnel, dpo={"waiting": 1}),
        ]
    )
    assert found["events"] == {"feedback": {"joined": 7, "early": 1}}
    assert found["partitions"].keys() == {"feedback[0]", "answers[0]"}
    assert (found["scorer"], found["learning_paused_since"]) == ({"step": 7}, "2026")
    assert (found["embedding"], found["dpo"], found["sft"]) == ({"cache": 1}, {"waiting": 1}, None)
    assert found["pair_funnel"]["widget"]["answers"] == 6


def test_metrics_of_several_roles_are_one_exposition_with_the_role_as_a_label() -> None:
    text = (
        "# HELP tierstream_events Events\n# TYPE tierstream_events counter\n"
        'tierstream_events_total{{topic="{topic}"}} {value}\n'
        "# HELP tierstream_ready Ready\n# TYPE tierstream_ready gauge\ntierstream_ready 1.0\n# EOF\n"
    )
    told = {"join": text.format(topic="feedback", value=3), "pairs": text.format(topic="answers", value=5)}
    families = {family.name: family for family in of_roles(told)}
    assert {name: (family.type, family.documentation) for name, family in families.items()} == {
        "tierstream_events": ("counter", "Events"),
        "tierstream_ready": ("gauge", "Ready"),
    }
    samples = [(s.name, s.labels, s.value) for family in families.values() for s in family.samples]
    assert samples == [
        ("tierstream_events_total", {"topic": "feedback", "role": "join"}, 3.0),
        ("tierstream_events_total", {"topic": "answers", "role": "pairs"}, 5.0),
        ("tierstream_ready", {"role": "join"}, 1.0),
        ("tierstream_ready", {"role": "pairs"}, 1.0),
    ]
    assert list(text_string_to_metric_families(told["join"]))  # type: ignore[no-untyped-call]


# Where they answer


def test_a_worker_says_where_it_answers_and_what_it_is_at_as_long_as_it_runs(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, web={"host": "0.0.0.0", "token": "t"})
    assert announced(settings) == []
    with Announcement(settings, ("join", "pairs"), 4711) as announcement:
        [found] = announced(settings)
        assert (found.url, found.roles, found.account) == ("http://127.0.0.1:4711", ("join", "pairs"), {})
        assert announcement.is_of(found)
        assert not announcement.is_of(replace(found, pid=found.pid + 1))
        announcement.tell({"ready": True})
        [later] = announced(settings)
        assert (later.account, later.at >= found.at) == ({"ready": True}, True)
    assert announced(settings) == []
    assert list((tmp_path / "data" / "run").iterdir()) == []


def test_a_worker_that_was_killed_here_or_left_elsewhere_is_forgotten(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    folder = tmp_path / "data" / "run"
    folder.mkdir(parents=True)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here, ours, now = socket.gethostname(), os.getpid(), time.time()
    of_before = {"url": "http://c:1", "host": here, "pid": ours, "roles": []}
    for name, about in {
        "a": {**of_before, "url": "http://a:1", "pid": ended.pid},
        "b": {"url": "http://127.0.0.1:7", "host": "elsewhere", "pid": ended.pid, "roles": [], "at": now - 3600},
        "c": of_before,
        "d": {"url": "http://d:1", "host": "elsewhere", "pid": 1, "roles": [], "at": now - 90_000},
        "foreign": [],
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(about))
    (folder / "damaged.json").write_text("{")
    # Its own loopback address is of no use to others: its name is.
    assert [one.url for one in announced(settings)] == ["http://elsewhere:7", "http://c:1"]
    assert {path.stem for path in folder.iterdir()} == {"b", "c", "foreign", "damaged"}
