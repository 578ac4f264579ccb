"""Command `produce`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import BinaryIO

import click

from schemas.config import LoadedSettings
from schemas.errors import InputError
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
    if str(file) == "-":
        _produce(loaded, topic, sys.stdin.buffer, rate)
        return
    try:
        with file.open("rb") as lines:
            _produce(loaded, topic, lines, rate)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", "name a file of JSON lines, or -") from error


def _produce(loaded: LoadedSettings, topic: str, lines: BinaryIO, rate: float | None) -> None:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn

    from streams.produce import produce_lines

    console = Console(stderr=True)
    columns = (SpinnerColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(topic, total=None)
        done = asyncio.run(
            produce_lines(
                loaded.settings,
                topic,
                lines,
                rate=rate,
                on_bad=lambda number, reason: click.echo(f"line {number}: {reason}", err=True),
                on_line=lambda: progress.advance(task),
            )
        )
    click.echo(f"{done.delivered} delivered, {done.bad} bad")
    if done.bad:
        click.get_current_context().exit(1)


COMMANDS = (produce,)
