"""`lag`: how far each group is behind, from the broker itself, and an exit status to alert on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.live import Live
from rich.table import Table

from schemas.config import LoadedSettings
from schemas.errors import LagError
from schemas.settings import Settings
from streams.cli.options import json_option, settings_options
from streams.cli.tables import print_table
from streams.terminal import Console

if TYPE_CHECKING:
    from streams.kafka.lag import PartitionLag


@click.command()
@settings_options()
@click.option("--watch", is_flag=True, help="Measure again and again until Ctrl-C; with --json a line each time.")
@click.option("--interval", type=click.FloatRange(min=0.2), default=2.0, show_default=True, help="Seconds; --watch.")
@click.option("--max-lag", type=click.IntRange(min=0), metavar="N", help="Exit 1 where a partition has more records.")
@click.option(
    "--max-seconds", type=click.FloatRange(min=0), metavar="S", help="Exit 1 where a record has waited longer."
)
@json_option
def lag(
    loaded: LoadedSettings,
    watch: bool,
    interval: float,
    max_lag: int | None,
    max_seconds: float | None,
    as_json: bool,
) -> None:
    """Show how far workers and trainers are behind, in records and in seconds, by partition.

    It is measured from the broker, so it is right while a worker is dead, stuck or rebalancing. The scorer's own
    topic is committed up to its newest checkpoint only, and a training job once it has ended, which is why the limits
    leave the trainers out. `deleted` counts what retention took before it was read.

    Example: tierstream lag --max-seconds 60
    """
    from streams.kafka.lag import beyond, of_the_stream

    if watch:
        _watch(loaded.settings, interval, max_lag, max_seconds, as_json)
        return
    rows = _measure(loaded.settings)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
    elif rows:
        print_table([asdict(row) for row in rows])
    else:
        click.echo("no topics of this deployment are there yet: tierstream topics --create", err=True)
    if late := beyond(of_the_stream(loaded.settings, rows), max_lag, max_seconds):
        worst = late[0]
        raise LagError(
            f"{len(late)} of {len(rows)} partitions are behind the limit, {worst.topic}[{worst.partition}] of group "
            f"{worst.group} furthest: {worst.lag:,} records, {worst.lag_seconds:,.1f} s",
            "look at the worker with `tierstream audit`, or add one",
        )


def _measure(settings: Settings) -> list[PartitionLag]:
    import asyncio

    from streams.kafka.lag import measure_lag

    return asyncio.run(measure_lag(settings))


def _watch(settings: Settings, interval: float, max_lag: int | None, max_seconds: float | None, as_json: bool) -> None:
    from streams.kafka.lag import beyond, of_the_stream

    if as_json:
        for rows in _again_and_again(settings, interval):
            click.echo(json.dumps([asdict(row) for row in rows]))
        return
    before: Mapping[tuple[str, str, int], PartitionLag] = {}
    measured = time.monotonic()
    with Live(console=Console(), auto_refresh=False) as screen:
        for rows in _again_and_again(settings, interval):
            now = time.monotonic()
            late = {_place(row) for row in beyond(of_the_stream(settings, rows), max_lag, max_seconds)}
            screen.update(_table(rows, before, now - measured, late), refresh=True)
            before, measured = {_place(row): row for row in rows}, now


def _again_and_again(settings: Settings, interval: float) -> Iterator[list[PartitionLag]]:
    while True:
        yield _measure(settings)
        time.sleep(interval)


def _place(row: PartitionLag) -> tuple[str, str, int]:
    return row.group, row.topic, row.partition


def _table(
    rows: Sequence[PartitionLag],
    before: Mapping[tuple[str, str, int], PartitionLag],
    seconds: float,
    late: set[tuple[str, str, int]],
) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column("topic and partition", no_wrap=True)
    for name in ("lag", "seconds", "records/s", "committed", "end", "deleted"):
        table.add_column(name, justify="right")
    for row in rows:
        earlier = before.get(_place(row))
        done = None if earlier is None else ((row.committed or 0) - (earlier.committed or 0)) / max(seconds, 1e-3)
        table.add_row(
            f"{row.topic}[{row.partition}]",
            f"{row.lag:,}",
            f"{row.lag_seconds:,.1f}",
            "-" if done is None else f"{done:,.0f}",
            "-" if row.committed is None else f"{row.committed:,}",
            f"{row.end:,}",
            f"{row.deleted:,}",
            style="red" if _place(row) in late else "yellow" if row.lag else "",
        )
    return table
