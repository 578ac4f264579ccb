"""Training jobs in words and tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from schemas.events import TrainingJob
from streams.training.folder import JobView
from streams.training.log import HEADING, describe, flat, minutes, parse_progress

_STYLES = {
    "finished": "green",
    "failed": "red",
    "interrupted": "red",
    "cancelled": "yellow",
    "running": "cyan",
}


def jobs_table(views: Sequence[JobView]) -> Table:
    """Return one row a job."""
    table = Table(box=None)
    for name in ("job", "state", "done", "try", "examples", "requested"):
        table.add_column(name, no_wrap=True)
    table.add_column("what came of it", overflow="fold")
    for view in views:
        table.add_row(
            view.job_id,
            styled(view.state),
            f"{view.progress:.0%}",
            str(view.attempt),
            "-" if view.examples is None else str(view.examples),
            when(view.requested_at)[5:16] or "-",
            outcome(view),
        )
    return table


def job_table(view: JobView, request: TrainingJob | None) -> Table:
    """Return everything about one job, a line each."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in job_rows(view, request):
        table.add_row(name, styled(value) if name == "state" else value)
    return table


def job_rows(view: JobView, request: TrainingJob | None) -> list[tuple[str, str]]:
    """Return everything about one job by name, without what is not known."""
    left = f", {minutes(view.eta_seconds)} left" if view.eta_seconds else ""
    rows: list[tuple[str, object]] = [
        ("job", view.job_id),
        ("tier", view.tier),
        ("state", view.state),
        ("reason", view.error),
        ("progress", f"{view.progress:.0%}{left}"),
        ("attempt", view.attempt),
        ("version", view.version and f"{view.version}, {'promoted' if view.promoted else 'rejected'}"),
        # The loss of each step is a curve, in the log and on the page.
        *((name, figure(value)) for name, value in flat(view.metrics).items() if not isinstance(value, list)),
    ]
    if request is not None:
        rows += [
            ("examples", request.example_count),
            ("dataset", f"{request.dataset_path} (sha256 {request.dataset_sha256[:12]})"),
            ("base model", request.base_model),
            *settings_rows(request),
            ("requested", when(request.requested_at)),
        ]
    rows += [("last told", when(view.updated_at)), ("folder", view.folder)]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


def settings_rows(request: TrainingJob) -> list[tuple[str, str]]:
    """Return the settings that a job was requested with, by dotted name."""
    return [(name, figure(value)) for name, value in flat(request.settings).items()]


def outcome(view: JobView) -> str:
    """Say in a few words what a job led to, or where it stands."""
    if view.version:
        return f"{view.version} {'promoted' if view.promoted else 'rejected'}"
    if view.error:
        return view.error
    words = [describe(view.metrics)]
    if view.eta_seconds is not None:
        words.append(f"{minutes(view.eta_seconds)} left")
    return ", ".join(word for word in words if word)


def log_line(line: str) -> str:
    """Return a line of a job's log for a person: progress in words, the rest as it is."""
    progress = parse_progress(line.encode())
    if progress is None:
        return f"\n{line}" if line.startswith(f"{HEADING}") and not line.startswith(f"{HEADING}1 ") else line
    known = {"stage", "step", "steps", "loss"}
    more = ", ".join(f"{name} {figure(value)}" for name, value in flat(progress.metrics).items() if name not in known)
    return f"{progress.share:>4.0%}  " + ", ".join(word for word in (describe(progress.metrics), more) if word)


def figure(value: object) -> str:
    """Return a figure or setting as text, numbers at four digits."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def styled(state: str) -> Text:
    """Return a state in its colour."""
    return Text(state, style=_STYLES.get(state, ""))


def when(at: datetime | None) -> str:
    """Return a time in UTC to the second."""
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
