"""Command `produce`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from schemas.config import LoadedSettings
from streams.cli.lines import open_lines, progress_bar
from streams.cli.options import settings_options

_TOPICS = ("experiences", "feedback", "claude-traces")


@click.command()
@click.argument("topic", metavar="TOPIC", type=click.Choice(_TOPICS))
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Events a second at most.")
@settings_options()
def produce(loaded: LoadedSettings, topic: str, file: Path, rate: float | None) -> None:
    """Validate the JSON lines of FILE (- for standard input) and publish them to TOPIC.

    TOPIC is experiences, feedback or claude-traces.
    Bad lines are named with the reason, the good ones go out, and the exit code is 1.

    Example: tierstream produce feedback feedback.jsonl --rate 100
    """
    from streams.history.backfill import from_lines, replay
    from streams.kafka.log_range import TimeRange

    with open_lines(file) as (lines, size), progress_bar(topic) as progress:
        done = asyncio.run(
            replay(
                from_lines(lines, topic, TimeRange(), size),
                topic,
                loaded.settings,
                rate=rate,
                on_bad=lambda where, reason: click.echo(f"{where}: {reason}", err=True),
                progress=progress,
            )
        )
    click.echo(f"{done.published} delivered, {done.bad} bad")
    if done.bad:
        click.get_current_context().exit(1)
