"""Command `retrain`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import click

from schemas.config import LoadedSettings
from streams.cli.lines import progress_bar
from streams.cli.options import json_option, settings_options
from streams.cli.tables import print_table


@click.command()
@click.option("--rank", "scorer__rank", type=click.IntRange(1, 512), help="Rank of the first layer to relearn with.")
@click.option("--promote", is_flag=True, help="Put it into use whatever the gate says.")
@settings_options()
@json_option
def retrain(loaded: LoadedSettings, scorer__rank: int | None, promote: bool, as_json: bool) -> None:
    """Relearn the scorer from the retained stream with the settings in effect, beside the one in use.

    Both are judged on held-out feedback; the new one is promoted where it is better by scorer.promotion_margin with
    95 % confidence, or with --promote. It is kept in any case, and nothing is overwritten: the old one goes on
    serving until then, and `tierstream models rollback scorer` brings it back.

    Example: tierstream retrain --rank 8
    """
    from streams.history.retrain import retrain as relearn
    from streams.training.model_versions import publish_now

    settings = loaded.settings
    if scorer__rank is not None:
        settings = settings.model_copy(update={"scorer": settings.scorer.model_copy(update={"rank": scorer__rank})})
    with progress_bar("relearning") as progress:
        outcome = asyncio.run(relearn(settings, progress, promote))
    asyncio.run(publish_now(settings))
    told = {
        "version": outcome.version,
        "promoted": outcome.promoted,
        "reason": outcome.reason,
        "records": outcome.records,
        "feedbacks_learned": outcome.learned,
        "changed": {key: {"in_use": one, "candidate": other} for key, (one, other) in outcome.changed.items()},
        "gate": outcome.gate.as_dict(),
    }
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    print_table([{"field": key, "value": value} for key, value in _flat(told)])
    click.echo(_what_next(outcome.version, outcome.promoted, outcome.changed))


def _flat(told: dict[str, Any]) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in told.items():
        rows += [(f"{key}.{name}", part) for name, part in value.items()] if isinstance(value, dict) else [(key, value)]
    return rows


def _what_next(version: str, promoted: bool, changed: dict[str, tuple[Any, Any]]) -> str:
    if not promoted:
        return f"kept, and not in use: `tierstream models promote {version}` would put it into use"
    if not changed:
        return f"{version} is in use; workers take it over by themselves"
    wanted = ", ".join(f"scorer.{key} = {new}" for key, (_, new) in changed.items() if key != "parameters")
    return f"{version} is in use; set {wanted} for the workers and start them again"
