"""Command `retrain`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import click

from schemas.config import LoadedSettings
from schemas.errors import SettingsError
from streams.cli.changes import change_settings_option, settings_set
from streams.cli.lines import progress_bar
from streams.cli.options import json_option, settings_options
from streams.cli.tables import print_table


@click.command()
@click.option("--rank", "scorer__rank", type=click.IntRange(1, 512), help="Rank of the first layer to relearn with.")
@click.option("--promote", is_flag=True, help="Put it into use whatever the gate says.")
@change_settings_option
@settings_options()
@json_option
def retrain(
    loaded: LoadedSettings, scorer__rank: int | None, promote: bool, change_settings: bool, as_json: bool
) -> None:
    """Relearn the scorer from the retained stream with the settings in effect, beside the one in use.

    Both are judged on held-out feedback; the new one is promoted where it is better by scorer.promotion_margin with
    95 % confidence, or with --promote. One of another rank than the settings' is promoted with --change-settings
    alone, which sets it in the settings file. It is kept in any case, and nothing is overwritten: the old one goes on
    serving until then, and `tierstream models rollback scorer` brings it back.

    Example: tierstream retrain --rank 8
    """
    from streams.history.retrain import retrain as relearn
    from streams.training.model_versions import publish_now

    settings, rank = loaded.settings, loaded.settings.scorer.rank
    other = {} if scorer__rank in (None, rank) else {"scorer.rank": scorer__rank}
    keep_because = f"kept only, as scorer.rank = {rank} is set" if other and not change_settings else None
    if keep_because and promote:
        raise SettingsError(
            f"a scorer of rank {scorer__rank} is not put into use while scorer.rank = {rank} is set",
            "add --change-settings, which changes both, or leave --promote away",
        )
    if other:
        settings = settings.model_copy(update={"scorer": settings.scorer.model_copy(update={"rank": scorer__rank})})
    with (
        progress_bar("relearning") as progress,
        settings_set(loaded, other if change_settings else {}) as change,
    ):
        outcome = asyncio.run(relearn(settings, progress, promote, keep_because))
        if not outcome.promoted:
            change.values.clear()
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
    if outcome.promoted:
        click.echo(f"{outcome.version} is in use{change.told or '; workers take it over by themselves'}")
    else:
        flag = " --change-settings" if other else ""
        click.echo(f"kept, and not in use: `tierstream models promote {outcome.version}{flag}` would put it into use")


def _flat(told: dict[str, Any]) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in told.items():
        rows += [(f"{key}.{name}", part) for name, part in value.items()] if isinstance(value, dict) else [(key, value)]
    return rows
