"""Throughput, latency and memory of one worker on the embedded Apache Kafka, embeddings supplied.

`python -m benchmarks.throughput` takes some minutes; the options make it shorter.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.machine import in_words, machine
from benchmarks.open_loop import OpenLoop
from benchmarks.system import CommandFailedError
from benchmarks.throughput_run import Bench, Memory, Saturation

LEAST_PER_SECOND = 5_000.0
MOST_P50_MS = 50.0
MOST_P99_MS = 250.0
MOST_RSS_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    experiences: int
    feedbacks: int
    rate: float
    seconds: float
    memory_events: int


@dataclass(frozen=True, slots=True)
class Measured:
    """All measurements of one worker."""

    experiences_per_second: float
    saturation: Saturation
    open_loop: OpenLoop
    memory: Memory


@click.command()
@click.option("--experiences", type=click.IntRange(1), default=20_000, show_default=True)
@click.option("--feedbacks", type=click.IntRange(1), default=100_000, show_default=True, help="At saturation.")
@click.option("--rate", type=click.FloatRange(1), default=200.0, show_default=True, help="Of the open loop, a second.")
@click.option("--seconds", type=click.FloatRange(1), default=30.0, show_default=True, help="Of the open loop.")
@click.option("--memory-events", type=click.IntRange(0), default=200_000, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep data directory and logs in this empty folder.")
@click.option("--check", is_flag=True, help="Exit 1 where a target is missed.")
def main(json_file: Path | None, keep: Path | None, check: bool, **sizes: Any) -> None:
    """Measure one worker, and print the figures beside their targets.

    Example: python -m benchmarks.throughput --experiences 2000 --feedbacks 20000 --seconds 10 --memory-events 0
    """
    console = Console(stderr=True, log_path=False)
    try:
        with _folder(keep) as folder:
            measured = _measure(Path(folder), Sizes(**sizes), console)
    except CommandFailedError as error:
        raise click.ClickException(str(error)) from error
    rows = targets(measured)
    _print(measured, rows)
    if json_file:
        content = {"machine": machine(), "load": os.getloadavg(), "sizes": sizes, "figures": figures(measured)}
        json_file.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    sys.exit(1 if check and not all(met for *_, met in rows) else 0)


def targets(measured: Measured) -> list[tuple[str, str, str, bool]]:
    """Return what has a target: figure, value, target, and whether it is met."""
    latency, memory = measured.open_loop.summary(), measured.memory
    rate = measured.saturation.per_second
    complete = measured.saturation.updates == measured.saturation.feedbacks and not measured.open_loop.missing
    loop = f"feedback to published score at {measured.open_loop.rate:g}/s"
    return [
        ("feedbacks a second, saturated", f"{rate:,.0f}", f"≥ {LEAST_PER_SECOND:,.0f}", rate >= LEAST_PER_SECOND),
        (f"{loop}, p50", f"{latency['seen p50']:.1f} ms", f"≤ {MOST_P50_MS:g} ms", latency["seen p50"] <= MOST_P50_MS),
        (f"{loop}, p99", f"{latency['seen p99']:.1f} ms", f"≤ {MOST_P99_MS:g} ms", latency["seen p99"] <= MOST_P99_MS),
        (
            f"worker RSS after {memory.events:,} events (peak)",
            f"{memory.now_bytes / 2**20:,.0f} MiB ({memory.peak_bytes / 2**20:,.0f})",
            "≤ 1,024 MiB",
            memory.now_bytes <= MOST_RSS_BYTES,
        ),
        ("every feedback has its score update", "yes" if complete else "no", "yes", complete),
    ]


def figures(measured: Measured) -> dict[str, Any]:
    """Return every figure as JSON data."""
    saturation, memory = measured.saturation, measured.memory
    return {
        "experiences_per_second": round(measured.experiences_per_second, 1),
        "feedbacks_per_second": round(saturation.per_second, 1),
        "feedbacks": saturation.feedbacks,
        "feedbacks_with_update": saturation.updates,
        "saturated_seconds": round(saturation.seconds, 2),
        "worker_cpu_seconds": round(saturation.cpu_seconds, 2),
        "open_loop_rate": measured.open_loop.rate,
        "open_loop_missing": measured.open_loop.missing,
        "open_loop_ms": measured.open_loop.summary(),
        "memory_events": memory.events,
        "rss_bytes": memory.now_bytes,
        "peak_rss_bytes": memory.peak_bytes,
    }


def _folder(keep: Path | None) -> AbstractContextManager[str]:
    if keep is not None:
        return nullcontext(str(keep))
    return tempfile.TemporaryDirectory(prefix="tierstream-", ignore_cleanup_errors=True)


def _measure(folder: Path, sizes: Sizes, console: Console) -> Measured:
    bench = Bench(folder, sizes.experiences, console.log)

    async def run() -> Measured:
        return Measured(
            await bench.stage(),
            await bench.saturate(sizes.feedbacks),
            await bench.open_loop(sizes.rate, sizes.seconds),
            await bench.fill_memory(sizes.memory_events),
        )

    try:
        return asyncio.run(run())
    finally:
        bench.stop()


def _print(measured: Measured, rows: list[tuple[str, str, str, bool]]) -> None:
    table = Table(title="One worker, embedded Apache Kafka, embeddings supplied")
    for name in ("figure", "measured", "target", ""):
        table.add_column(name, justify="left" if name == "figure" else "right")
    for figure, value, target, met in rows:
        table.add_row(figure, value, target, "met" if met else "missed")
    table.add_section()
    for part, milliseconds in measured.open_loop.summary().items():
        table.add_row(f"open loop, {part}", f"{milliseconds:.1f} ms", "", "")
    table.add_section()
    cost = measured.saturation.cpu_seconds / measured.saturation.feedbacks * 1e6
    table.add_row("worker CPU a feedback, saturated", f"{cost:,.0f} µs", "", "")
    table.add_row("experiences a second, embeddings supplied", f"{measured.experiences_per_second:,.0f}", "", "")
    console = Console()
    console.print(table)
    console.print(in_words(machine()), soft_wrap=True)


if __name__ == "__main__":
    main()
