"""Tierstream and its peers at the same work on one broker, in turn, in several rounds.

`make bench-peers` makes the peers' environment and runs this.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import click
import orjson
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.load import Load, feedback_id
from benchmarks.machine import machine
from benchmarks.open_loop import open_loop, publisher_of
from benchmarks.system import Command, CommandFailedError, command_line, last_line, settings_of
from benchmarks.topics import ends, reader
from schemas.settings import Settings
from streams import topology
from streams.admin import ensure_topics
from streams.broker.launch import free_port
from streams.publisher import Outgoing

ROOT = Path(__file__).parents[2]
OURS = "tierstream"
PEERS = {"bare aiokafka": "bare", "FastStream": "faststream_batch", "Quix Streams": "quix", "Bytewax": "bytewax_flow"}
FLOOR = "floor"
ENGINES = (OURS, *PEERS, FLOOR)
TIMEOUT_SECONDS = 300.0
PUBLISH_AT_ONCE = 500


@dataclass(slots=True)
class Result:
    """One engine in one round."""

    per_second: float
    cpu_per_1000: float
    """CPU seconds for a thousand feedbacks."""
    rss_bytes: int
    latencies: dict[float, dict[str, float]] = field(default_factory=dict)
    """By feedbacks a second."""


class Engine:
    """One engine's process on topics of its own."""

    def __init__(self, name: str, python: str, bootstrap: str, folder: Path, number: int, feedbacks: int) -> None:
        self.name = name
        prefix = f"n{number}-"
        self._variables = {
            "TIERSTREAM_TOPICS__PREFIX": prefix,
            "TIERSTREAM_KAFKA__SESSION_TIMEOUT": "45s",
            "TIERSTREAM_WEB__PORT": str(free_port()),
        }
        self.settings: Settings = settings_of(bootstrap, folder / f"data-{number}", self._variables)
        self._log = folder / f"{number}-{name.replace(' ', '-')}.log"
        module = {**PEERS, FLOOR: "floor"}.get(name)
        if module is None:
            arguments = ["worker", "--bootstrap-servers", bootstrap, "--data-dir", self.settings.data_dir]
            self._command = command_line(arguments)
        else:
            self._command = [python, "-m", f"benchmarks.peers.{module}", bootstrap, prefix, str(feedbacks)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env={**os.environ, **self._variables}, stdout=log, stderr=log
            )

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def used(self) -> tuple[float, int]:
        """Return its CPU seconds and resident bytes."""
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        times = process.cpu_times()
        return times.user + times.system, process.memory_info().rss

    def check(self) -> None:
        """See that it runs.

        Raises:
            CommandFailedError: it does not.
        """
        assert self._process is not None
        if self._process.poll() is not None:
            raise CommandFailedError(f"{self.name} ended: {last_line(self._log)} (log: {self._log})")

    def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self.tell(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


async def measure(engine: Engine, experiences: int, feedbacks: int, rates: Sequence[float], seconds: float) -> Result:
    """Let an engine learn experiences, then feedback that lies ready, then feedback at fixed rates."""
    await ensure_topics(engine.settings, topology.topic_specs(engine.settings))
    load = Load(engine.settings, experiences)
    await _publish(engine.settings, load.experiences())
    engine.start()
    await _wait_for(engine, {}, "experience_id", b"experiences", experiences)
    # It stands still while the feedback is published: neither takes the other's share of the machine.
    engine.tell(signal.SIGSTOP)
    await _publish(engine.settings, iter(load.feedback(0, feedbacks)))
    starts = await ends(engine.settings, topology.SCORE_UPDATES)
    cpu_before, _ = engine.used()
    started = time.time()
    engine.tell(signal.SIGCONT)
    finished = await _wait_for(engine, starts, "feedback_id", b"feedback", feedbacks)
    cpu, rss = engine.used()
    result = Result(feedbacks / (finished - started), (cpu - cpu_before) / feedbacks * 1000, rss)
    sent = feedbacks
    for rate in rates if engine.name != FLOOR else ():
        count = int(rate * seconds)
        ids = [feedback_id(sent + number) for number in range(count)]
        messages = dict(zip(ids, load.feedback(sent, count), strict=True))
        sent += count
        found = (await open_loop(engine.settings, messages, rate)).summary()
        result.latencies[rate] = {"p50": found["seen p50"], "p99": found["seen p99"]}
    return result


async def _wait_for(engine: Engine, starts: dict[int, int], key: str, floor_topic: bytes, count: int) -> float:
    """Wait for score updates of so many distinct values of `key`; return the time of the last one in epoch seconds."""
    seen: set[str] = set()
    deadline = time.monotonic() + TIMEOUT_SECONDS
    async with reader(engine.settings, topology.SCORE_UPDATES, starts or None) as consumer:
        while True:
            fetched = await consumer.getmany(timeout_ms=200)
            for record in (record for records in fetched.values() for record in records):
                if engine.name == FLOOR:
                    if record.key is not None and record.key.endswith(floor_topic) and int(record.value) >= count:
                        return float(record.timestamp / 1000)
                    continue
                value = orjson.loads(record.value).get(key)
                if value is not None:
                    seen.add(value)
                if len(seen) >= count:
                    return float(record.timestamp / 1000)
            engine.check()
            if time.monotonic() > deadline:
                raise CommandFailedError(f"{engine.name}: {len(seen)} of {count} score updates in time")


async def _publish(settings: Settings, messages: object) -> None:
    waiting = iter(messages)  # type: ignore[call-overload]
    async with publisher_of(settings) as publisher:
        while chunk := list[Outgoing](islice(waiting, PUBLISH_AT_ONCE)):
            await publisher.publish(chunk)


@click.command()
@click.option("--peers-python", required=True, help="Python of the environment that has the peers' packages.")
@click.option("--experiences", type=click.IntRange(1), default=5_000, show_default=True)
@click.option("--feedbacks", type=click.IntRange(1), default=20_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--rate", "rates", type=click.FloatRange(1), multiple=True, default=(200.0, 1000.0, 5000.0))
@click.option("--seconds", type=click.FloatRange(1), default=5.0, show_default=True, help="Of each rate.")
@click.option("--engine", "engines", type=click.Choice(ENGINES), multiple=True, default=ENGINES)
@click.option("--least-ratio", type=float, help="Exit 1 where we are below this share of the bare aiokafka pipeline.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there.")
def main(
    peers_python: str,
    experiences: int,
    feedbacks: int,
    rounds: int,
    rates: tuple[float, ...],
    seconds: float,
    engines: tuple[str, ...],
    least_ratio: float | None,
    json_file: Path | None,
) -> None:
    """Measure the engines in turn and print them beside each other.

    Example: python -m benchmarks.peers.compare --peers-python .venv-peers/bin/python --rounds 1
    """
    console = Console(stderr=True)
    found: defaultdict[str, list[Result]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="tierstream-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        arguments = ["broker", "--broker", "kafka", "--broker-port", "0", "--data-dir", str(folder / "data")]
        with Command(arguments, {}, folder / "broker.log") as broker:
            broker.wait_until_ready()
            for number in range(rounds * len(engines)):
                engine_name = engines[number % len(engines)]
                engine = Engine(engine_name, peers_python, broker.values["broker"], folder, number, feedbacks)
                try:
                    result = asyncio.run(measure(engine, experiences, feedbacks, rates, seconds))
                except CommandFailedError as error:
                    raise click.ClickException(str(error)) from error
                finally:
                    engine.stop()
                found[engine_name].append(result)
                console.log(f"{engine_name}: {result.per_second:,.0f} feedbacks/s")
    _print(found, rates)
    if json_file is not None:
        figures = {name: [_as_json(result) for result in results] for name, results in found.items()}
        json_file.write_text(json.dumps({"machine": machine(), "figures": figures}, indent=2) + "\n", "utf-8")
    if least_ratio is not None:
        ratio = _median(found[OURS], lambda r: r.per_second) / _median(found["bare aiokafka"], lambda r: r.per_second)
        console.print(f"share of the bare aiokafka pipeline: {ratio:.2f}, at least {least_ratio:.2f} is asked")
        sys.exit(ratio < least_ratio)


def _as_json(result: Result) -> dict[str, object]:
    return {
        "per_second": round(result.per_second, 1),
        "cpu_seconds_per_1000": round(result.cpu_per_1000, 4),
        "rss_bytes": result.rss_bytes,
        "latency_ms": {f"{rate:g}": values for rate, values in result.latencies.items()},
    }


def _median(results: Sequence[Result], of: Callable[[Result], float]) -> float:
    return statistics.median(of(result) for result in results)


def _spread(results: Sequence[Result], of: Callable[[Result], float], form: str) -> str:
    values = [of(result) for result in results]
    middle = format(statistics.median(values), form)
    return middle if len(values) == 1 else f"{middle} ({min(values):{form}} to {max(values):{form}})"


def _print(found: dict[str, list[Result]], rates: Sequence[float]) -> None:
    table = Table(title="The same work, median (least to most) over the rounds")
    for heading in ("engine", "feedbacks/s", "of ours", "CPU s / 1,000", "RSS MiB"):
        table.add_column(heading, justify="left" if heading == "engine" else "right")
    for rate in rates:
        table.add_column(f"p50 / p99 ms at {rate:g}/s", justify="right")
    ours = _median(found[OURS], lambda r: r.per_second) if found.get(OURS) else None
    for name, results in found.items():
        share = "" if ours is None else f"{_median(results, lambda r: r.per_second) / ours:.2f}"
        cells = [name, _spread(results, lambda r: r.per_second, ",.0f"), share]
        cells += [
            _spread(results, lambda r: r.cpu_per_1000, ".2f"),
            _spread(results, lambda r: r.rss_bytes / 2**20, ".0f"),
        ]
        for rate in rates:
            those = [result.latencies[rate] for result in results if rate in result.latencies]
            middle = {p: statistics.median(one[p] for one in those) for p in ("p50", "p99")} if those else None
            cells.append("" if middle is None else f"{middle['p50']:.0f} / {middle['p99']:.0f}")
        table.add_row(*cells)
    console = Console(width=max(140, Console().width))
    console.print(table)
    console.print("; ".join(f"{name} {value}" for name, value in machine().items()), soft_wrap=True)


if __name__ == "__main__":
    main()
