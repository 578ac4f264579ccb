"""Command `serve`."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import click

from schemas.config import LoadedSettings
from schemas.extras import require
from streams.cli.options import settings_options


@click.command()
@settings_options("serving.port", broker=False)
def serve(loaded: LoadedSettings) -> None:
    """Answer from the version in use: a server with OpenAI's API, which follows promotions and rollbacks.

    It listens on this machine alone. Model `tierstream` is what is in use; every version, and the base model, can be
    asked for by its own name.

    Example: tierstream serve --port 8000
    """
    from streams.training.launcher import job_variables

    require("serve")
    settings = loaded.settings
    # Before transformers is imported: it keeps to the data directory, and to this machine.
    os.environ.update(job_variables(settings.jobs.base_model, Path(settings.data_dir), os.environ))
    from trainers.jobs.serve import run

    run(settings, click.echo, functools.partial(click.echo, err=True))
