"""`python -m tests.chaos.slow_intake`: what a slow disk does to the intake of a burst, and to a worker's memory."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import psutil

from benchmarks.machine import machine
from benchmarks.processes import resident_bytes
from tests.chaos.brokers import Cluster
from tests.chaos.fleet import slow_disk_variables
from tests.chaos.load import experience, feedback, trace
from tests.live import Deployment, Process
from trainers.files import write_atomically
from trainers.traces.store import TraceStore

WAIT_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """One burst, taken in by one worker that had not run before."""

    of: str
    events: int
    fsync_seconds: float
    """What each fsync of the worker's processes took longer."""
    seconds: float
    """From the worker's readiness until the last event had its effect."""
    peak_bytes: int
    """Of the worker and its scorer's process."""
    lost: int

    @property
    def per_second(self) -> float:
        """Events a second."""
        return self.events / self.seconds


@click.command()
@click.option("--events", default=20_000, show_default=True, help="Traces, and feedbacks, of a burst.")
@click.option("--seconds", "delays", multiple=True, type=float, default=(0.0, 0.1, 1.0), help="An fsync more.")
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="Also write the figures there.")
def main(events: int, delays: tuple[float, ...], as_json: Path | None) -> None:
    """Let bursts lie ready, start a worker whose disk is slow, and watch it.

    Example: python -m tests.chaos.slow_intake --events 5000
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # new topics have no leader at first
    found: list[DecodedBatch] = []
    with tempfile.TemporaryDirectory(prefix="slow-") as folder, Cluster(Path(folder) / "broker") as cluster:
        for number, delay in enumerate(delays):
            for kind in (_traces, _feedback):
                prefix = f"slow{number}-{kind.__name__.strip('_')}-"
                with Deployment(cluster.bootstrap, prefix, Path(folder) / prefix / "data") as stream:
                    found.append(kind(stream, events, delay))
                    click.echo(_line(found[-1]))
    if as_json:
        rows = [{**asdict(one), "per_second": round(one.per_second, 1)} for one in found]
        as_json.write_text(json.dumps({"machine": machine(), "load": psutil.getloadavg(), "rows": rows}, indent=2))
    sys.exit(any(one.lost for one in found))


def _traces(stream: Deployment, events: int, delay: float) -> DecodedBatch:
    stream.publish("claude-traces", [trace(number) for number in range(events)])
    folder = stream.data_dir / "traces"

    def lines() -> int:
        return sum(path.read_bytes().count(b"\n") for path in folder.glob("traces-*.jsonl"))

    seconds, peak = _take_in(stream, delay, lambda: lines() >= events)
    stored = {one.trace.trace_id for one in TraceStore(folder).read()}
    return DecodedBatch("traces", events, delay, seconds, peak, events - len(stored))


def _feedback(stream: Deployment, events: int, delay: float) -> DecodedBatch:
    stream.publish("experiences", [experience(number) for number in range(events)])
    stream.publish("feedback", [feedback(number, "evaluator") for number in range(events)])

    def learned(worker: Process) -> int:
        scorer = worker.status().get("scorer") or {}
        return int(scorer.get("groups_learned", 0)) + int(scorer.get("groups_held_out", 0))

    seconds, peak = _take_in(stream, delay, lambda: learned(stream.processes[-1]) >= events)
    judged = {update["feedback_id"] for update in stream.read("score-updates") if update.get("feedback_id")}
    return DecodedBatch("feedbacks, with their experiences", events, delay, seconds, peak, events - len(judged))


def _take_in(stream: Deployment, delay: float, done: Callable[[], bool]) -> tuple[float, int]:
    """Start a worker on such a disk and wait until it is done; return the seconds, and the highest memory in bytes."""
    place = stream.data_dir.parent / "delay"
    write_atomically(place, str(delay).encode())
    worker = stream.worker(**slow_disk_variables(place))
    began, closing, peak = time.monotonic(), threading.Event(), 0

    def watch() -> None:
        nonlocal peak
        while not closing.wait(0.2):
            peak = max(peak, resident_bytes(worker.popen.pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        while not done():
            worker.must_run()
            assert time.monotonic() - began < WAIT_SECONDS, stream.logs()
            time.sleep(0.2)
        seconds = time.monotonic() - began
    finally:
        closing.set()
        watching.join()
    place.unlink()
    worker.end()
    return seconds, peak


def _line(one: DecodedBatch) -> str:
    return (
        f"{one.events:,} {one.of}, each fsync {one.fsync_seconds:g} s longer: {one.seconds:.1f} s, "
        f"{one.per_second:,.0f} a second, at most {one.peak_bytes / 2**20:,.0f} MiB, {one.lost} lost"
    )


if __name__ == "__main__":
    main()
