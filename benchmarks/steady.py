"""`python -m benchmarks.steady`: what a running system costs, at rest and at a steady rate of feedback.

`tierstream up` runs as it stands, broker included, without a trainer, which would train; the producer is not counted.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
import psutil

from benchmarks.load import Load, values
from benchmarks.machine import in_words, machine
from benchmarks.processes import cpu_seconds
from benchmarks.system import RunningSystem
from streams import topics

EXPERIENCES = 2_000


@click.command()
@click.option("--rate", default=50.0, show_default=True, help="Feedbacks a second.")
@click.option("--seconds", default=60.0, show_default=True, help="How long at rest, and how long at that rate.")
@click.option("--settle", default=30.0, show_default=True, help="Seconds before each, for what is under way to end.")
def main(rate: float, seconds: float, settle: float) -> None:
    """Measure both, one after the other.

    Example: python -m benchmarks.steady --seconds 30
    """
    with tempfile.TemporaryDirectory(prefix="steady-") as folder, RunningSystem(Path(folder), {}) as system:
        load, pid = Load(system.settings, EXPERIENCES), system.up.process.pid
        system.produce(topics.EXPERIENCES, values(load.experiences()))
        time.sleep(settle)
        resting = _cores(pid, seconds)
        click.echo(f"machine: {in_words(machine())}, load {psutil.getloadavg()[0]:.1f}")
        click.echo(f"at rest: {resting:.1%} of a core")
        # Feedback that comes before the measuring begins and goes on after it has ended.
        lines = values(load.feedback(0, int(rate * (settle + seconds + settle))))
        producing = system.start_producing(topics.FEEDBACK, lines, rate)
        try:
            time.sleep(settle)
            working = _cores(pid, seconds)
        finally:
            producing.terminate()
            producing.wait()
        click.echo(f"at {rate:g} feedbacks/s: {working:.1%} of a core, {working - resting:.1%} above rest")


def _cores(pid: int, seconds: float) -> float:
    began, before = time.monotonic(), cpu_seconds(pid)
    time.sleep(seconds)
    return (cpu_seconds(pid) - before) / (time.monotonic() - began)


if __name__ == "__main__":
    main()
