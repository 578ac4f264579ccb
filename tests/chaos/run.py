"""Rounds: events are published while a fault happens, then all of them are waited for."""

from __future__ import annotations

import asyncio
import random
import shlex
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from aiokafka.admin import RecordsToDelete

from streams import topics
from streams.kafka.admin import admin_client
from streams.kafka.lag import committed_offsets
from tests.chaos.brokers import Cluster
from tests.chaos.faults import FAULTS, MOSTLY, PREPARATIONS, WEIGHTS, mount_small_disk, unmount
from tests.chaos.fleet import Fleet
from tests.chaos.load import Load
from tests.chaos.stage import SESSION_SECONDS, STALL_SECONDS, Stage, leave
from tests.chaos.verify import END_STATES, Findings, verify
from tests.chaos.watch import Watcher
from tests.live import Deployment
from tests.trainers.jobs import tiny

JOBS_SECONDS = 240.0
"""A job that takes longer has hung: they are slow to start where others work, and run one at a time."""

EACH = 3
"""Rounds of every fault before any is drawn by its weight."""

ROUND_SECONDS, VERIFY_SECONDS, ALL_JOBS_SECONDS = 900.0, 1200.0, 3600.0
"""What takes longer waits for a broker that others starve: the run then ends with what it has."""

SETTLE_SECONDS = 150.0
"""A round whose events are not all learned so long after its fault has hung."""

PATIENCE_SECONDS = 10.0
"""Answers of different queries are paired after so long, by ticks, in the midst of the faults."""

SETTINGS: dict[str, dict[str, Any]] = {
    "kafka": {"session_timeout": SESSION_SECONDS},
    "scorer": {"checkpoint_every_steps": 10, "groups_per_step": 8, "checkpoint_idle": 1.0},
    "stream": {"stall_timeout": STALL_SECONDS},
    "join": {"tick_interval": 2.0},
}

UNTRAINED: dict[str, dict[str, Any]] = {
    "pairs": {"threshold": 100, "patience": PATIENCE_SECONDS},
    "traces": {"threshold": 25},
    # The jobs end at once.
    "jobs": {"base_model": "/nowhere"},
}


def trained(folder: Path) -> dict[str, dict[str, Any]]:
    """Return settings by which few jobs train, for real, a model of a few kilobytes that is made in `folder`."""
    jobs = tiny.settings(tiny.build_model(folder), max_steps=4, checkpoint_interval=0.001).jobs
    fields = {"base_model": True, "dpo": True, "sft": True, "gate": True}
    return {
        "pairs": {"threshold": 800, "patience": PATIENCE_SECONDS},
        "traces": {"threshold": 120},
        "jobs": jobs.model_dump(include=fields, mode="json", exclude_unset=True),
    }


@dataclass
class Round:
    """One round's figures."""

    fault: str
    messages: int = 0
    recovery_seconds: float = 0.0
    """From the end of the fault until everything published had its score update."""
    settled: bool = True


@dataclass
class Report:
    """All rounds, and what was found after them."""

    seed: int
    brokers: int
    rounds: list[Round] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    round_of: dict[str, int] = field(default_factory=dict)
    endings: dict[str, list[int]] = field(default_factory=dict)
    """Exit codes of processes that ended by themselves or by a kill, by slot."""
    signals: Counter[str] = field(default_factory=Counter)
    """Signals that processes were sent."""
    leaves: list[float] = field(default_factory=list)
    """Seconds that workers took to leave once they were told to."""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing was lost or done twice, and no round hung."""
        return self.findings.good and all(one.settled for one in self.rounds)


def schedule(seed: int, names: list[str]) -> Iterator[str]:
    """Draw faults for ever: each named one thrice, then `MOSTLY` twice for each of the others, those by weight."""
    rng = random.Random(f"schedule {seed}")
    for _ in range(EACH):
        yield from rng.sample(names, len(names))
    others = [name for name in names if name != MOSTLY] or names
    while True:
        if MOSTLY in names:
            yield from (MOSTLY, MOSTLY)
        yield rng.choices(others, [WEIGHTS.get(name, 1) for name in others])[0]


def run(
    folder: Path,
    seed: int,
    faults: list[str],
    goes_on: Callable[[int], bool],
    brokers: int = 1,
    events: int = 120,
    train: bool = False,
    say: Callable[[str], None] = print,
) -> Report:
    """Run rounds while `goes_on(count so far)`, stop everything, and compare.

    Args:
        folder: for all files; must be empty.
        seed: of faults, moments and events.
        faults: names of `FAULTS`, or none to draw from all.
        goes_on: asked before each round.
        brokers: 1 or 3.
        events: experiences of one round; as many feedbacks, and a fifth of traces.
        train: whether jobs train a tiny model; otherwise only their datasets are checked.
        say: takes a line a round.
    """
    report, began = Report(seed, brokers), time.monotonic()
    data = folder / "data"
    with ExitStack() as exits:
        disk = mount_small_disk(data)
        exits.callback(unmount, disk)
        names = [name for name in faults or list(FAULTS) if disk or name != "disk full"]
        cluster = exits.enter_context(Cluster(folder / "brokers", brokers))
        jobs = trained(folder / "base") if train else UNTRAINED
        settings = {**SETTINGS, **jobs, "topics": {"prefix": "chaos-", "replication_factor": brokers}}
        stream = exits.enter_context(Deployment(cluster.bootstrap, "chaos-", data, **settings))
        load = Load(stream.settings, cluster.bootstrap, seed)
        watcher = exits.enter_context(Watcher(stream.settings, cluster.bootstrap))
        fleet = Fleet(stream, cluster.link)
        stage = Stage(fleet, cluster, random.Random(f"faults {seed}"), disk, report.findings.problems, report.leaves)
        with fleet:
            for number, name in enumerate(schedule(seed, names)):
                if not goes_on(number) or (report.rounds and not report.rounds[-1].settled):
                    break
                one = Round(name, settled=False)
                report.rounds.append(one)
                with _in_time(report, f"round {number + 1}, {name}", ROUND_SECONDS):
                    _round(one, stage, load, watcher, number, events)
                say(_line(number, one, stage))
                with _in_time(report, "shortening a topic", 60.0):
                    asyncio.run(_shorten(stream))
            with _in_time(report, "waiting for jobs", ALL_JOBS_SECONDS):
                _wait_for_jobs(stream)
            _leave_all(stage)
        report.findings.problems += _left_behind(data)
        report.endings = {slot.name: slot.endings for slot in fleet.slots}
        for slot in fleet.slots:
            report.signals.update(slot.sent)
        with _in_time(report, "comparing", VERIFY_SECONDS):
            verify(stream, load.produced, report.findings)
        made = load.produced
        report.round_of = {**made.experiences, **made.feedback, **made.traces}
    report.seconds = time.monotonic() - began
    return report


@contextmanager
def _in_time(report: Report, what: str, seconds: float) -> Iterator[None]:
    """Let what fails or takes longer be a problem of the report, which tells the rest."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except Exception as error:  # noqa: BLE001 - what was found before is worth more than why it ended
        report.findings.problems.append(f"{what}: {type(error).__name__}: {error}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


async def _shorten(stream: Deployment) -> None:
    """Delete the traces that are stored from their topic, as retention does: its start moves on, and so grows."""
    name = stream.settings.topic(topics.TRACES)
    committed = await committed_offsets(stream.settings, topics.group(stream.settings, "traces"), [name])
    async with admin_client(stream.settings) as client:
        await client.delete_records({tp: RecordsToDelete(offset) for tp, offset in committed.items() if offset})


def _round(done: Round, stage: Stage, load: Load, watcher: Watcher, number: int, events: int) -> None:
    rng, name = stage.rng, done.fault
    if name in PREPARATIONS:
        PREPARATIONS[name](stage)
    seconds = rng.uniform(2.0, 8.0)

    def publish() -> None:
        done.messages = load.publish(number, events, seconds)

    publishing = threading.Thread(target=publish, daemon=True)
    publishing.start()
    time.sleep(rng.uniform(0.0, seconds / 2))
    FAULTS[name](stage)
    ended = time.monotonic()
    publishing.join(SETTLE_SECONDS)
    while not _settled(load, watcher) and time.monotonic() < ended + SETTLE_SECONDS:
        time.sleep(0.1)
    done.settled = _settled(load, watcher)
    done.recovery_seconds = time.monotonic() - ended


def _settled(load: Load, watcher: Watcher) -> bool:
    made = load.produced
    return made.feedback.keys() <= watcher.judged.keys() and made.experiences.keys() <= watcher.arrived


def _wait_for_jobs(stream: Deployment) -> None:
    """Let traces and jobs end, too: those that are announced, as long as one after the other does."""
    deadline, quiet, before = time.monotonic() + JOBS_SECONDS, 0, 0
    while quiet < 3 and time.monotonic() < deadline:
        time.sleep(3.0)
        announced = {job["job_id"] for job in stream.read(topics.JOBS)}
        ended = {update["job_id"] for update in stream.read(topics.JOB_UPDATES) if update["state"] in END_STATES}
        quiet = quiet + 1 if announced <= ended else 0
        if len(ended) > before:
            deadline, before = time.monotonic() + JOBS_SECONDS, len(ended)


def _leave_all(stage: Stage) -> None:
    """Stop everything in order."""
    for slot in stage.fleet.slots:
        leave(stage, slot)


def _left_behind(data: Path) -> list[str]:
    """Return the processes that have outlived the deployment, which they are given a moment to end with."""
    deadline = time.monotonic() + 10
    while (left := [process for process in psutil.process_iter() if _belongs(process, data)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.2)
    return [f"process {process.pid} was left behind: {_what_runs(process)}" for process in left]


def _what_runs(process: psutil.Process) -> str:
    try:
        return f"{shlex.join(process.cmdline())}, {process.status()}, {time.time() - process.create_time():.0f} s old"
    except psutil.Error as error:
        return repr(error)


def _belongs(process: psutil.Process, data: Path) -> bool:
    try:
        return process.environ().get("TIERSTREAM_DATA_DIR") == str(data) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _line(number: int, one: Round, stage: Stage) -> str:
    codes = [code for slot in stage.fleet.slots for code in slot.endings]
    state = f"all learned {one.recovery_seconds:.1f} s after it" if one.settled else "NOT SETTLED"
    return f"round {number + 1}: {one.fault}: {one.messages} messages, {state}; exits so far {codes[-8:]}"
