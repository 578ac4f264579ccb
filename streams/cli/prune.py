"""Command `prune`."""

from __future__ import annotations

import json
import time

import click

from schemas.config import LoadedSettings
from schemas.errors import TierstreamError
from streams.cli.options import json_option, settings_options
from streams.cli.tables import print_table


@click.command()
@settings_options(broker=False)
@click.option("--dry-run", is_flag=True, help="Tell what would go only.")
@json_option
def prune(loaded: LoadedSettings, dry_run: bool, as_json: bool) -> None:
    """Delete what [retention] lets go: checkpoints of ended jobs, old jobs, versions that were never in use.

    What is in use, was in use, or is referenced stays; so does anything of the last day.

    Example: tierstream prune --dry-run
    """
    from trainers.retention import remove, superfluous

    found = superfluous(loaded.settings, time.time())
    try:
        done = found if dry_run else list(remove(found))
    except OSError as error:
        raise TierstreamError(
            f"{error.filename} cannot be deleted: {error.strerror}", "fix its permissions, then prune again"
        ) from error
    rows = [{"path": str(item.path), "reason": item.reason} for item in done]
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "pruned": rows}, indent=2))
        return
    print_table(rows)
    click.echo(f"{len(rows)} {'would go' if dry_run else 'pruned'}")
