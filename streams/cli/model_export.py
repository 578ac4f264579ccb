"""Command `models export`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from schemas.config import LoadedSettings
from streams.cli.options import json_option, settings_options


@click.command()
@click.argument("version", metavar="VERSION")
@click.option("--to", "target", required=True, metavar="DIR", type=click.Path(path_type=Path), help="A new folder.")
@click.option("--merged", is_flag=True, help="A whole model: the adapter's weights are added to the base model's.")
@settings_options(broker=False)
@json_option
def export(loaded: LoadedSettings, version: str, target: Path, merged: bool, as_json: bool) -> None:
    """Write a version of dpo or sft into a folder that PEFT loads, or with --merged transformers alone.

    A model card says what it was made of and how it was judged. An adapter names its base model by path, or by its name
    on the hub; a merged model needs neither PEFT nor the base model.

    Example: tierstream models export dpo-0123456789ab --to my-model --merged
    """
    from schemas.extras import require

    require("train")
    from trainers.jobs.export import export as write

    done = write(Path(loaded.settings.data_dir), version, target, merged=merged)
    if as_json:
        click.echo(json.dumps(asdict(done), indent=2, default=str))
        return
    size = sum(done.files.values()) / 2**20
    what = "a whole model" if merged else f"an adapter of {done.base_model}"
    click.echo(
        f"{target}: {version} as {what}, {len(done.files)} files, {size:,.1f} MiB; README.md says how it is loaded"
    )
