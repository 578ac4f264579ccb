"""Command `train`: the tiers by hand, and the pause of the scorer's learning."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.table import Table

from schemas.config import LoadedSettings
from streams.cli.options import json_option, settings_options
from streams.terminal import Console

if TYPE_CHECKING:
    from streams.stack.train import TierReport

_STYLES = {"COMPLETED": "green", "SKIPPED": "yellow", "FAILED": "red"}


@click.command()
@click.option(
    "--tier", type=click.Choice(["all", "scorer", "dpo", "kto", "sft"]), help="Run this tier once, or all of them."
)
@click.option("--now", is_flag=True, help="Start DPO, KTO and SFT jobs below their thresholds too.")
@click.option("--pause", is_flag=True, help="Pause the scorer's learning; scoring goes on.")
@click.option("--resume", is_flag=True, help="Let the scorer learn again, first what came during the pause.")
@settings_options("web.port")
@json_option
def train(loaded: LoadedSettings, tier: str | None, now: bool, pause: bool, resume: bool, as_json: bool) -> None:
    """Run the tiers once: what waits in the stream is learned, and jobs that are due run; exit 1 where one failed.

    Each tier is reported as COMPLETED or SKIPPED, with counts and the reason. Where no worker or trainer runs, this
    does their work until it is done. --pause and --resume switch the scorer's learning in every worker instead.

    Example: tierstream train --tier all --now
    """
    if pause or resume:
        if (pause and resume) or tier or now:
            raise click.UsageError("say either --pause or --resume, and nothing else")
        from streams.cli.learning import switch_learning

        switch_learning(loaded.settings, pause=pause)
        return
    if tier is None:
        raise click.UsageError("say --tier all, scorer, dpo, kto or sft, or --pause or --resume")
    kto = ["kto"] if loaded.settings.unpaired.enabled else []
    reports = _run(loaded, ["scorer", "dpo", *kto, "sft"] if tier == "all" else [tier], now)
    if as_json:
        click.echo(json.dumps([asdict(report) for report in reports], indent=2))
    else:
        Console(highlight=False).print(_table(reports))
    if any(report.state == "FAILED" for report in reports):
        click.get_current_context().exit(1)


def _run(loaded: LoadedSettings, tiers: list[str], now: bool) -> list[TierReport]:
    from streams.stack.train import train_once
    from streams.training.display import display

    with display(loaded.settings.stream.log_level) as show:
        return asyncio.run(train_once(loaded, tiers, now, lambda line: click.echo(line, err=True), show))


def _table(reports: list[TierReport]) -> Table:
    table = Table("tier", "state", "counts and reason", box=None)
    for report in reports:
        style = _STYLES.get(report.state, "")
        table.add_row(report.tier, f"[{style}]{report.state}[/]" if style else report.state, report.why)
    return table
