"""`python -m tests.chaos.hosts`: roles spread over three hosts and three brokers, a host cut off, a join added.

The hosts are made on one machine: each has a folder of its own for state, and its own way to the brokers, which can be
cut. What they share is the data directory, as they would.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.machine import in_words, machine
from tests.chaos.brokers import Cluster
from tests.chaos.load import Load
from tests.chaos.verify import Findings, verify
from tests.chaos.watch import Watcher
from tests.live import Deployment

HOSTS = (("join", "scorer"), ("join", "pairs"), ("scorer", "traces"))
PARTITIONS = 6
"""A multiple of the joins: of four partitions, three would get 2, 2 and none."""
SESSION_SECONDS = 6.0
WAIT_SECONDS = 300.0
PROBES = 60
"""Experiences of a round that only asks whether every partition is looked after again."""
SETTINGS: dict[str, dict[str, Any]] = {
    "kafka": {"session_timeout": SESSION_SECONDS},
    "scorer": {"checkpoint_every_steps": 50, "groups_per_step": 8},
    "jobs": {"base_model": "/nowhere"},
    # Nobody trains here: no jobs.
    "pairs": {"patience": 10.0, "threshold": 1_000_000},
    "traces": {"threshold": 1_000_000},
    "join": {"tick_interval": 2.0},
}


@dataclass(frozen=True, slots=True)
class Phase:
    """A burst of events, and what it took."""

    name: str
    messages: int
    seconds: float
    """From the first that was published until the last experience and feedback had its score update."""
    cpu_seconds: dict[str, float]
    """Of each role's processes, all hosts together, and of the brokers."""

    @property
    def per_second(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds


@dataclass
class Report:
    """All phases, how soon a host's partitions were taken over, and what was found after them."""

    phases: list[Phase] = field(default_factory=list)
    taken_over: dict[str, float] = field(default_factory=dict)
    """Seconds from the cut, or from its end, until events of every partition had their effect."""
    findings: Findings = field(default_factory=Findings)


class Hosts:
    """The deployment on its hosts."""

    def __init__(self, stream: Deployment, cluster: Cluster, load: Load, watcher: Watcher) -> None:
        self._stream, self._cluster, self._load, self._watcher = stream, cluster, load, watcher
        self._round = 0

    def start(self, host: int, roles: tuple[str, ...], number: int = 0) -> None:
        """Start a worker of these roles on a host; it is not awaited."""
        self._stream.start(
            "worker",
            "--roles",
            ",".join(roles),
            TIERSTREAM_KAFKA__BOOTSTRAP_SERVERS=self._cluster.link(host),
            TIERSTREAM_STATE_DIR=str(self._stream.data_dir.parent / f"state-{host}-{number}"),
        )

    def wait_until_ready(self) -> None:
        """Wait for all that were started."""
        for process in self._stream.processes:
            process.wait_until_ready(WAIT_SECONDS)

    def cut(self, host: int, *, off: bool) -> None:
        """Cut a host's way to the brokers, or mend it."""
        for proxy in self._cluster.links[host]:
            (proxy.cut if off else proxy.mend)()

    def phase(self, name: str, events: int, meanwhile: Callable[[], None] = lambda: None) -> Phase:
        """Publish a burst as fast as it goes, do something meanwhile, and wait until all of it has its effect."""
        self._round += 1
        before, began = self._cpu(), time.monotonic()
        counts: list[int] = []
        publishing = threading.Thread(target=lambda: counts.append(self._load.publish(self._round, events, 0.0)))
        publishing.start()
        meanwhile()
        publishing.join()
        while not self._settled():
            if time.monotonic() > began + WAIT_SECONDS:
                raise TimeoutError(f"{name}: not all of it has its effect after {WAIT_SECONDS:g} s")
            time.sleep(0.05)
        seconds = time.monotonic() - began
        after = self._cpu()
        used = {what: round(after.get(what, 0.0) - before.get(what, 0.0), 2) for what in after}
        return Phase(name, counts[0], seconds, used)

    def _settled(self) -> bool:
        made = self._load.produced
        return made.feedback.keys() <= self._watcher.judged.keys() and made.experiences.keys() <= self._watcher.arrived

    def _cpu(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for process in self._stream.processes:
            for child in psutil.Process(process.popen.pid).children():
                words = child.cmdline()
                role = words[words.index("streams.worker.role") + 1] if "streams.worker.role" in words else "other"
                found[role] = found.get(role, 0.0) + sum(child.cpu_times()[:2])
        pids = [node.process.pid for node in self._cluster.nodes if node.process is not None]
        found["brokers"] = sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)
        return found


def run(folder: Path, events: int, say: Callable[[str], None]) -> Report:
    """Go through all phases and compare what came of the events with what was published.

    Args:
        folder: for all files; must be empty.
        events: experiences of a phase; about as many feedbacks.
        say: takes a line a phase.
    """
    report = Report()
    with ExitStack() as exits:
        cluster = exits.enter_context(Cluster(folder / "brokers", 3, links=len(HOSTS)))
        settings = {**SETTINGS, "topics": {"prefix": "hosts-", "replication_factor": 3, "partitions": PARTITIONS}}
        stream = exits.enter_context(Deployment(cluster.bootstrap, "hosts-", folder / "data", **settings))
        load = Load(stream.settings, cluster.bootstrap, seed=22)
        watcher = exits.enter_context(Watcher(stream.settings, cluster.bootstrap))
        hosts = Hosts(stream, cluster, load, watcher)

        def phase(name: str, meanwhile: Callable[[], None] = lambda: None, count: int = events) -> Phase:
            report.phases.append(found := hosts.phase(name, count, meanwhile))
            say(f"{name}: {found.messages:,} messages in {found.seconds:.1f} s, {found.per_second:,.0f} a second")
            return found

        hosts.start(0, HOSTS[0])
        hosts.start(2, HOSTS[2])
        hosts.wait_until_ready()
        phase("two hosts, one join")
        hosts.start(1, HOSTS[1])
        hosts.wait_until_ready()
        phase("three hosts, two joins")
        hosts.cut(1, off=True)
        report.taken_over["cut off"] = phase("second host cut off: taken over", count=PROBES).seconds
        phase("second host cut off")
        hosts.cut(1, off=False)
        report.taken_over["brought back"] = phase("second host brought back: taken over", count=PROBES).seconds
        phase("second host back")
        phase("a third join added meanwhile", lambda: hosts.start(2, ("join",), 1))
        hosts.wait_until_ready()
        phase("three joins")
        stream.wait_until_idle(WAIT_SECONDS)
        for process in stream.processes:
            process.end(30)
        verify(stream, load.produced, report.findings)
    return report


@click.command()
@click.option("--events", default=3_000, show_default=True, help="Experiences of a phase; about as many feedbacks.")
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="Also write the figures there.")
def main(events: int, as_json: Path | None) -> None:
    """Spread the roles over three hosts, cut one off, bring it back, add a join, and compare.

    Example: python -m tests.chaos.hosts --events 1000
    """
    console = Console(stderr=True, log_path=False)
    with tempfile.TemporaryDirectory(prefix="hosts-", ignore_cleanup_errors=True) as folder:
        report = run(Path(folder), events, console.log)
    table = Table(title="Three hosts and three brokers on one machine")
    for name in ("phase", "messages", "a second", "against two joins"):
        table.add_column(name, justify="right" if name != "phase" else "left")
    whole = next(one for one in report.phases if one.name == "three hosts, two joins")
    for one in report.phases:
        if one.messages > 3 * PROBES:
            ratio = one.per_second / whole.per_second
            table.add_row(one.name, f"{one.messages:,}", f"{one.per_second:,.0f}", f"{ratio:.2f}")
    Console().print(table)
    for what, seconds in report.taken_over.items():
        click.echo(f"{what}: every partition is looked after within {seconds:.1f} s (session {SESSION_SECONDS:g} s)")
    for line in report.findings.lines() or ["nothing lost, nothing learned twice, weights as the log gives them"]:
        click.echo(line)
    click.echo(in_words(machine()))
    if as_json is not None:
        rows = [{**asdict(one), "per_second": round(one.per_second, 1)} for one in report.phases]
        figures = {"machine": machine(), "phases": rows, "taken_over": report.taken_over}
        as_json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    sys.exit(0 if report.findings.good else 1)


if __name__ == "__main__":
    main()
