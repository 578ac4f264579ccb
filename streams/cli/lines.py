"""Files of JSON lines that commands read, and their progress."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from schemas.errors import InputError
from streams.terminal import Console


@contextmanager
def open_lines(file: Path) -> Iterator[tuple[Iterable[bytes], int | None]]:
    """Give the lines of a file, `-` being standard input, and their bytes where they are known.

    Raises:
        InputError: the file cannot be read.
    """
    if str(file) == "-":
        yield sys.stdin.buffer, None
        return
    try:
        with file.open("rb") as lines:
            yield lines, file.stat().st_size
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", "name a file of JSON lines, or -") from error


@contextmanager
def progress_bar(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar with the time that remains, on a terminal; call what it gives with how much is done, of how much."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
