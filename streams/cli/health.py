"""Command `health`: for whoever supervises processes that have no web server, or runs roles apart."""

from __future__ import annotations

import asyncio
import json

import click

from schemas.config import LoadedSettings
from schemas.errors import TierstreamError
from streams.cli.options import json_option, settings_options
from streams.topics import ROLES, group

TRAINER = "trainer"


@click.command()
@settings_options()
@click.argument("roles", nargs=-1, type=click.Choice([*ROLES, TRAINER]))
@json_option
def health(loaded: LoadedSettings, roles: tuple[str, ...], as_json: bool) -> None:
    """Tell how many processes of each role, and of ROLES alone where they are named, are at work; exit 1 where none is.

    The broker is asked: a process that hangs sends no heartbeats, and counts no more once kafka.session_timeout has
    passed. A worker's /readyz tells more of the roles that it runs itself.

    Example: tierstream health trainer
    """
    from streams.kafka.lag import group_members, trainer_group

    members = asyncio.run(group_members(loaded.settings))
    names = {role: group(loaded.settings, role) for role in ROLES} | {TRAINER: trainer_group(loaded.settings)}
    running = {role: members.get(names[role], 0) for role in roles or names}
    if as_json:
        click.echo(json.dumps(running))
    else:
        for role, count in running.items():
            click.echo(f"{role}: {count}")
    if idle := [role for role, count in running.items() if not count]:
        workers = ",".join(role for role in idle if role != TRAINER)
        starts = [f"tierstream worker --roles {workers}"] * bool(workers) + ["tierstream trainer"] * (TRAINER in idle)
        raise TierstreamError(f"no process of {', '.join(idle)} is at work", " and ".join(starts))
