"""Command `upgrade`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict

import click

from schemas.config import LoadedSettings
from streams.cli.lines import progress_bar
from streams.cli.options import json_option, settings_options


@click.command()
@settings_options()
@json_option
def upgrade(loaded: LoadedSettings, as_json: bool) -> None:
    """Take over a deployment of the release before this one, once, with all its workers stopped.

    A new scorer learns all that the old one's log retains; nothing is published or paired anew. Run again, it goes on
    where it was cut short.

    Example: tierstream upgrade --bootstrap-servers kafka:9092
    """
    from streams.history.upgrade import upgrade as take_over
    from streams.training.model_versions import publish_now

    with progress_bar("copying") as progress:
        done = asyncio.run(take_over(loaded.settings, progress))
    asyncio.run(publish_now(loaded.settings))
    if as_json:
        click.echo(json.dumps(asdict(done), indent=2))
        return
    scorer = f"{done.version} learned them in {done.step:,} steps" if done.version else "the worker will learn them"
    click.echo(f"{done.entries:,} entries and {done.partitions} offsets taken over; {scorer}")
    click.echo("the topics scorer-entries and scorer-steps are not needed any more")
