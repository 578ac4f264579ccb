"""`replay`: what was learned, learned once more."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict

import click
from rich.console import Console
from rich.progress import Progress

from schemas.config import LoadedSettings
from streams.cli.options import json_option, settings_options


@click.command()
@settings_options()
@click.option("--tier", type=click.Choice(["scorer"]), required=True, help="What to replay.")
@click.option("--verify", is_flag=True, required=True, help="Compare the weights with the newest checkpoint's.")
@json_option
def replay(loaded: LoadedSettings, tier: str, verify: bool, as_json: bool) -> None:
    """Learn the stream again from the log of steps and compare; exit 1 where the weights differ in one bit.

    Example: tierstream replay --tier scorer --verify
    """
    from streams.replay import verify_scorer

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("relearning")
        found = asyncio.run(verify_scorer(loaded.settings, lambda done, of: bar.update(task, completed=done, total=of)))
    if as_json:
        click.echo(json.dumps({"tier": tier, "agrees": found.agrees, **asdict(found)}, indent=2))
    else:
        verdict = "the same weights, bit for bit" if found.agrees else "OTHER WEIGHTS"
        click.echo(f"{verdict}: checkpoint {found.checkpoint}, replay {found.replayed}")
        click.echo(f"step {found.step}, {found.entries} entries")
    if not found.agrees:
        click.get_current_context().exit(1)


COMMANDS = (replay,)
