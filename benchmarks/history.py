"""What a long history costs: rate, memory, restart and disk with few and with many experiences in the join's tables.

`python -m benchmarks.history`; each size has an embedded Apache Kafka and data of its own.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.machine import in_words, machine
from benchmarks.system import CommandFailedError
from benchmarks.throughput_run import Bench

VARIABLES = {"TIERSTREAM_KAFKA__SESSION_TIMEOUT": "60s"}
"""The worker stands still for seconds."""
LOGS = ("experiences-*", "scorer-log-*", "*-changelog-*")
"""The broker's folders of what an experience leaves in topics."""


@dataclass(frozen=True, slots=True)
class History:
    """One size."""

    experiences: int
    experiences_per_second: float
    feedbacks_per_second: float
    cpu_microseconds: float
    """Of worker and scorer, a feedback."""
    p50_ms: float
    p99_ms: float
    restart_seconds: float
    """From the start of a worker with its local state until it is ready."""
    rss_bytes: int
    """Of the worker that started anew, and its scorer."""
    topic_bytes: float
    """An experience, in the topic `experiences`."""
    entry_bytes: float
    """In `scorer-log`, features included."""
    changelog_bytes: float
    """In the changelogs of the join's tables."""
    state_bytes: float
    """In the worker's local state: the join's tables and the scorer's store of features."""


@click.command()
@click.option(
    "--experiences", "sizes", type=click.IntRange(1), multiple=True, default=(2_000, 200_000), show_default=True
)
@click.option("--feedbacks", type=click.IntRange(1), default=40_000, show_default=True, help="At saturation.")
@click.option("--rate", type=click.FloatRange(1), default=1000.0, show_default=True, help="Of the open loop, a second.")
@click.option("--seconds", type=click.FloatRange(0.1), default=10.0, show_default=True, help="Of the open loop.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there.")
def main(sizes: Sequence[int], feedbacks: int, rate: float, seconds: float, json_file: Path | None) -> None:
    """Measure the same feedback with histories of different lengths.

    Example: python -m benchmarks.history --experiences 2000 --experiences 20000 --feedbacks 20000
    """
    console = Console(stderr=True, log_path=False)
    found = []
    for size in sizes:
        try:
            found.append(asyncio.run(_measure(size, feedbacks, rate, seconds, console)))
        except CommandFailedError as error:
            raise click.ClickException(str(error)) from error
        if json_file is not None:  # after each, so that a run that is cut short leaves what it has
            rows = [asdict(one) for one in found]
            json_file.write_text(
                json.dumps({"machine": machine(), "feedbacks": feedbacks, "sizes": rows}, indent=2) + "\n"
            )
    table = Table(title=f"The same feedback after more and more experiences; open loop at {rate:g}/s")
    table.add_column("figure")
    for one in found:
        table.add_column(f"{one.experiences:,} experiences", justify="right")
    forms = {
        "experiences/s while they came": "{0.experiences_per_second:,.0f}",
        "feedbacks/s, saturated": "{0.feedbacks_per_second:,.0f}",
        "worker's and scorer's CPU a feedback, µs": "{0.cpu_microseconds:,.0f}",
        "p50 / p99, ms": "{0.p50_ms:.0f} / {0.p99_ms:.0f}",
        "restart until ready, s": "{0.restart_seconds:.1f}",
        "bytes an experience in its topic": "{0.topic_bytes:,.0f}",
        "… in scorer-log": "{0.entry_bytes:,.0f}",
        "… in the join's changelogs": "{0.changelog_bytes:,.0f}",
        "… in local state": "{0.state_bytes:,.0f}",
    }
    for name, form in forms.items():
        table.add_row(name, *(form.format(one) for one in found))
    table.add_row("RSS after the restart, MiB", *(f"{one.rss_bytes / 2**20:,.0f}" for one in found))
    Console().print(table)
    Console().print(in_words(machine()), soft_wrap=True)


async def _measure(size: int, feedbacks: int, rate: float, seconds: float, console: Console) -> History:
    with tempfile.TemporaryDirectory(prefix="tierstream-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        bench = Bench(folder, size, console.log, variables=VARIABLES)
        try:
            arriving = await bench.stage()
            logs = folder / "data" / "broker"
            topic, entries, changelogs = (
                _bytes_of(logs, pattern) / size for pattern in ("experiences-*", "scorer-log-*", "*-changelog-*")
            )
            saturation = await bench.resume(feedbacks)
            if saturation.updates != feedbacks:
                raise CommandFailedError(f"{saturation.updates} of {feedbacks} feedbacks have a score update")
            latency = (await bench.open_loop(rate, seconds)).summary()
            bench.stop_workers()
            state = _bytes_of(folder, "state-*") / size
            restart = await bench.start_workers()
            memory = await bench.fill_memory(0)
        finally:
            bench.stop()
    return History(
        size,
        arriving,
        saturation.per_second,
        saturation.cpu_seconds / feedbacks * 1e6,
        latency["seen p50"],
        latency["seen p99"],
        restart,
        memory.now_bytes,
        topic,
        entries,
        changelogs,
        state,
    )


def _bytes_of(folder: Path, pattern: str) -> int:
    """Return the bytes on the disk of all files in folders of this name, wherever those are below `folder`."""
    files = (file for found in folder.rglob(pattern) if found.is_dir() for file in found.rglob("*"))
    return sum(file.stat().st_blocks * 512 for file in files if file.is_file())


if __name__ == "__main__":
    main()
