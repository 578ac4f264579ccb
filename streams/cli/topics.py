"""`topics`: what there must be on the broker, and whether it is."""

from __future__ import annotations

import asyncio
import json

import click

from schemas.config import LoadedSettings
from streams.cli.options import json_option, settings_options
from streams.cli.tables import print_table


@click.command()
@settings_options()
@click.option("--create", is_flag=True, help="Create the topics that are missing.")
@click.option("--apply", "mend", is_flag=True, help="Set the configs that topics must have, where they have others.")
@json_option
def topics(loaded: LoadedSettings, create: bool, mend: bool, as_json: bool) -> None:
    """List every topic of this deployment with its state; exit 1 where one is missing or unfit.

    --apply changes topics that somebody made with other configs: a shorter retention deletes what is older.

    Example: tierstream topics --create
    """
    from streams.kafka.admin import REMEDIES, apply_configs, ensure_topics, topic_states
    from streams.topics import topic_specs

    specs = topic_specs(loaded.settings)
    if mend:
        for state in asyncio.run(apply_configs(loaded.settings, specs)):
            click.echo(f"changed: {state.fault}", err=True)
    if create:
        asyncio.run(ensure_topics(loaded.settings, specs))
    states = asyncio.run(topic_states(loaded.settings, specs))
    rows = [
        {
            "topic": state.spec.name,
            "state": state.condition,
            "partitions": state.partitions,
            "wanted_partitions": state.spec.partitions,
            "configs": dict(state.spec.configs),
            "unfit": state.unfit,
        }
        for state in states
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        print_table([{k: v for k, v in row.items() if k not in ("configs", "unfit")} for row in rows])
        for state in states:
            if state.fault is not None:
                click.echo(f"{state.fault}: {REMEDIES[state.condition]}", err=True)
    if any(state.condition != "ok" for state in states):
        click.get_current_context().exit(1)
