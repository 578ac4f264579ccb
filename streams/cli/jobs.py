"""`tierstream jobs`: what became of training jobs, their logs, and running them again or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from schemas.config import LoadedSettings
from schemas.events import JobAction
from streams.cli.options import json_option, settings_options


@click.group()
def jobs() -> None:
    """Look after training jobs: list, show, logs, retry, cancel.

    Example: tierstream jobs list
    """


@jobs.command("list")
@settings_options(broker=False)
@json_option
def list_(loaded: LoadedSettings, as_json: bool) -> None:
    """List every training job with its state and what came of it.

    Example: tierstream jobs list --json
    """
    from streams.training.folder import view_jobs
    from streams.training.job_text import jobs_table

    views = view_jobs(Path(loaded.settings.data_dir))
    if as_json:
        click.echo(json.dumps([asdict(view) for view in views], indent=2, default=str))
    elif views:
        _print(jobs_table(views))
    else:
        click.echo(f"no jobs in {loaded.settings.data_dir}/jobs yet; tierstream train --now starts them early")


@jobs.command()
@click.argument("job")
@settings_options(broker=False)
@json_option
def show(loaded: LoadedSettings, job: str, as_json: bool) -> None:
    """Show one JOB whole: its state, figures, settings and files. A unique beginning of its id is enough.

    Example: tierstream jobs show dpo-3f2a
    """
    from streams.training.folder import find_job, read_job
    from streams.training.job_text import job_table

    view = find_job(Path(loaded.settings.data_dir), job)
    request = read_job(Path(view.folder))
    if as_json:
        whole = {**asdict(view), "request": request.model_dump(mode="json") if request else None}
        click.echo(json.dumps(whole, indent=2, default=str))
    else:
        _print(job_table(view, request))


@jobs.command()
@click.argument("job")
@click.option("--follow", "-f", is_flag=True, help="Go on until the job has ended.")
@settings_options(broker=False)
@json_option
def logs(loaded: LoadedSettings, job: str, follow: bool, as_json: bool) -> None:
    """Print the log of a JOB, progress in words; with --json the lines as the job wrote them.

    Example: tierstream jobs logs dpo-3f2a --follow
    """
    from streams.training.folder import find_job
    from streams.training.job_text import log_line

    view = find_job(Path(loaded.settings.data_dir), job)
    for line in _log_lines(Path(view.folder), follow):
        click.echo(line if as_json else log_line(line))


@jobs.command()
@click.argument("job")
@click.option(
    "--new-settings", is_flag=True, help="Take base model, training and gate from the settings now in effect."
)
@settings_options()
@json_option
def retry(loaded: LoadedSettings, job: str, new_settings: bool, as_json: bool) -> None:
    """Run a JOB again that failed or was cancelled; it goes on from its last checkpoint.

    A job keeps the settings that it was requested with. With --new-settings it takes those in effect for this command,
    which are named, and begins anew.

    Example: tierstream jobs retry dpo-3f2a
    """
    _control(loaded, job, "retry", as_json, new_settings)


@jobs.command()
@click.argument("job")
@settings_options()
@json_option
def cancel(loaded: LoadedSettings, job: str, as_json: bool) -> None:
    """End a JOB that waits or runs; its data and checkpoints stay.

    Example: tierstream jobs cancel dpo-3f2a
    """
    _control(loaded, job, "cancel", as_json)


def _control(loaded: LoadedSettings, job: str, action: JobAction, as_json: bool, new_settings: bool = False) -> None:
    import asyncio

    from streams.training.controls import ask_for

    view, trainers, changes = asyncio.run(ask_for(loaded.settings, job, action, new_settings=new_settings))
    if as_json:
        told = {"job_id": view.job_id, "action": action, "state": view.state, "trainers": trainers}
        click.echo(json.dumps({**told, "changed": {name: list(pair) for name, pair in changes.items()}}))
        return
    for name, (old, new) in changes.items():
        click.echo(f"{name}: {new}, was {old}")
    if new_settings and not changes:
        click.echo("no setting differs from those that the job has")
    done = {"retry": "will be run again", "cancel": "will be ended"}[action]
    when = "" if trainers else " once a trainer runs: there is none now (tierstream trainer)"
    click.echo(f"job {view.job_id} {done}{when}; tierstream jobs show {view.job_id[:12]} tells")


def _log_lines(folder: Path, follow: bool) -> Iterator[str]:
    import time

    from streams.training.folder import END_STATES, view_job
    from streams.training.log import LOG_NAME, LogTail

    tail = LogTail(folder / LOG_NAME, from_start=True)
    while True:
        ended = view_job(folder).state in END_STATES
        yield from (line.decode("utf-8", errors="replace") for line in tail.new_lines())
        if not follow or ended:
            break
        time.sleep(0.3)
    yield from (line.decode("utf-8", errors="replace") for line in tail.rest())


def _print(content: Any) -> None:
    from streams.terminal import Console

    console = Console(highlight=False)
    # A pipe has no width: lines stay whole for whoever reads them.
    (console if console.is_terminal else Console(highlight=False, width=240)).print(content)
