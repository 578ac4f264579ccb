"""What a trainer shows of its jobs: bars on a terminal, lines in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from schemas.events import JobUpdate
from streams.terminal import Console
from streams.training.folder import END_STATES
from streams.training.log import describe, minutes

log = logging.getLogger("tierstream.trainer")

LINE_EVERY_SECONDS = 15.0

Show = Callable[[JobUpdate], None]


@contextmanager
def display(level: str) -> Iterator[Show]:
    """Set up the log, and give what shows updates of jobs: on a terminal as bars below the log.

    Args:
        level: least level that is logged.
    """
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
        logging.getLogger("aiokafka").setLevel(logging.WARNING)
        yield Lines()
        return
    handler = RichHandler(console=console, show_path=False, markup=False, log_time_format="%H:%M:%S")
    logging.basicConfig(level=level.upper(), format="%(message)s", handlers=[handler])
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    with job_progress(console) as progress:
        yield Bars(progress)


def job_progress(console: Console) -> Progress:
    """Make a progress display with one bar a job."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[figures]}"),
        TextColumn("{task.fields[left]}"),
        console=console,
        transient=True,
    )


class Lines:
    """One line of log a change of state, and one now and then while a job runs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, tuple[str, float]] = {}

    def __call__(self, update: JobUpdate) -> None:
        """Log an update where it is worth a line."""
        state, at = self._told.get(update.job_id, ("", float("-inf")))
        if update.state == state and (state != "running" or self._clock() - at < LINE_EVERY_SECONDS):
            return
        self._told[update.job_id] = (update.state, self._clock())
        log.log(logging.ERROR if update.state == "failed" else logging.INFO, line_of(update))


class Bars:
    """A line of log a change of state, and a bar for each job that is under way."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lines = Lines(clock=lambda: 0.0)  # changes of state only
        self._bars: dict[str, TaskID] = {}

    def __call__(self, update: JobUpdate) -> None:
        """Move the job's bar, and log a change of state."""
        self._lines(update)
        bar = self._bars.get(update.job_id)
        if update.state in END_STATES:
            if bar is not None:
                self._progress.remove_task(self._bars.pop(update.job_id))
            return
        if bar is None:
            bar = self._bars[update.job_id] = self._progress.add_task(short(update), total=1.0, figures="", left="")
        figures = describe(update.metrics) or update.state
        self._progress.update(bar, completed=update.progress, figures=figures, left=time_left(update))


def line_of(update: JobUpdate) -> str:
    """Say an update in one line."""
    words = [f"{update.state}"]
    if update.attempt > 1:
        words.append(f"attempt {update.attempt}")
    if update.state == "running":
        words += [word for word in (f"{update.progress:.0%}", describe(update.metrics), time_left(update)) if word]
    if update.error:
        words.append(update.error)
    return f"job {update.job_id}: {', '.join(words)}"


def short(update: JobUpdate) -> str:
    """Return tier and the beginning of the job's id."""
    return f"{update.tier.upper()} {update.job_id[:12]}"


def time_left(update: JobUpdate) -> str:
    """Return the time until the end in words, empty where it is not known."""
    return "" if update.eta_seconds is None else f"{minutes(update.eta_seconds)} left"
