"""Command `train`."""

from __future__ import annotations

import click

from schemas.config import LoadedSettings
from streams.cli.learning import switch_learning
from streams.cli.options import settings_options


@click.command()
@click.option("--pause", is_flag=True, help="Pause the scorer's learning; scoring goes on.")
@click.option("--resume", is_flag=True, help="Let the scorer learn again, first what came during the pause.")
@settings_options(broker=False)
def train(loaded: LoadedSettings, pause: bool, resume: bool) -> None:
    """Pause or resume the scorer's learning, in every worker of the data directory.

    Example: tierstream train --pause
    """
    if pause == resume:
        raise click.UsageError("say either --pause or --resume")
    switch_learning(loaded.settings, pause=pause)


COMMANDS = (train,)
