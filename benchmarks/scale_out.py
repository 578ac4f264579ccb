"""One, two and four workers side by side on one machine, embeddings supplied: what they take and cost together.

`python -m benchmarks.scale_out`; each count has an embedded Apache Kafka and data of its own.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.machine import in_words, machine
from benchmarks.system import CommandFailedError
from benchmarks.throughput_run import Bench, Memory, Saturation

VARIABLES = {"TIERSTREAM_KAFKA__SESSION_TIMEOUT": "60s"}
"""Workers stand still for seconds."""


@click.command()
@click.option("--workers", "counts", type=click.IntRange(1), multiple=True, default=(1, 2, 4), show_default=True)
@click.option("--experiences", type=click.IntRange(1), default=5_000, show_default=True)
@click.option("--feedbacks", type=click.IntRange(1), default=40_000, show_default=True, help="At saturation.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there.")
def main(counts: Sequence[int], experiences: int, feedbacks: int, json_file: Path | None) -> None:
    """Measure workers side by side and print what they take together.

    Example: python -m benchmarks.scale_out --workers 1 --workers 2 --feedbacks 20000
    """
    console = Console(stderr=True, log_path=False)
    found = []
    for count in counts:
        console.log(f"{count} worker(s)")
        try:
            found.append(asyncio.run(_measure(count, experiences, feedbacks, console)))
        except CommandFailedError as error:
            raise click.ClickException(str(error)) from error
    table = Table(title="Workers side by side, all on this machine with the broker")
    for name in ("workers", "feedbacks/s", "against the first", "workers' CPU, µs", "broker's CPU, µs", "RSS, MiB"):
        table.add_column(name, justify="right")
    for count, (saturation, memory) in zip(counts, found, strict=True):
        each = 1e6 / saturation.feedbacks
        table.add_row(
            str(count),
            f"{saturation.per_second:,.0f}",
            f"{saturation.per_second / found[0][0].per_second:.2f}",
            f"{saturation.cpu_seconds * each:,.0f}",
            f"{saturation.broker_cpu_seconds * each:,.0f}",
            f"{memory.now_bytes / 2**20:,.0f}",
        )
    Console().print(table)
    Console().print(in_words(machine()), soft_wrap=True)
    if json_file is not None:
        rows = [
            {"workers": count, **asdict(saturation), "rss_bytes": memory.now_bytes}
            for count, (saturation, memory) in zip(counts, found, strict=True)
        ]
        json_file.write_text(json.dumps({"machine": machine(), "counts": rows}, indent=2) + "\n", "utf-8")


async def _measure(count: int, experiences: int, feedbacks: int, console: Console) -> tuple[Saturation, Memory]:
    with tempfile.TemporaryDirectory(prefix="tierstream-", ignore_cleanup_errors=True) as folder:
        bench = Bench(Path(folder), experiences, console.log, count, VARIABLES)
        try:
            await bench.stage()
            saturation = await bench.resume(feedbacks)
            if saturation.updates != feedbacks:
                raise CommandFailedError(f"{saturation.updates} of {feedbacks} feedbacks have a score update")
            return saturation, await bench.fill_memory(0)
        finally:
            bench.stop()


if __name__ == "__main__":
    main()
