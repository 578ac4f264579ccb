"""Commands `replay` and `export`: what was published, once more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from pydantic import TypeAdapter, ValidationError

from schemas.base import Timestamp
from schemas.config import LoadedSettings
from schemas.settings import Settings
from streams.cli.lines import open_lines, progress_bar
from streams.cli.options import json_option, settings_options

if TYPE_CHECKING:
    from streams.history.backfill import Recorded
    from streams.kafka.log_range import TimeRange

_INPUTS = ("experiences", "feedback", "claude-traces")
_PUBLIC = (
    *_INPUTS,
    "score-updates",
    "preference-pairs",
    "training-jobs",
    "job-updates",
    "model-versions",
    "dead-letters",
)


class _Moment(click.ParamType):
    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            moment: datetime = TypeAdapter(Timestamp).validate_python(value)
        except ValidationError:
            self.fail(f"{value!r} is no time: write 2026-11-25T10:00:00Z or epoch seconds", param, ctx)
        return moment.astimezone(UTC)


def _stretch_options(command: Any) -> Any:
    command = click.option("--until", type=_Moment(), help="Up to this time, which is left out.")(command)
    return click.option("--since", type=_Moment(), help="From this time on.")(command)


@click.command()
@click.argument("topic", metavar="TOPIC", type=click.Choice(_INPUTS), required=False)
@click.option("--file", type=click.Path(path_type=Path, allow_dash=True), help="JSON lines, - for standard input.")
@_stretch_options
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Events a second at most.")
@click.option("--to-prefix", metavar="PREFIX", help="The deployment that gets the events, by its topics.prefix.")
@click.option("--to-bootstrap-servers", metavar="HOST:PORT", help="Its broker, where it is another one.")
@click.option("--dry-run", is_flag=True, help="Read and check, publish nothing.")
@click.option("--tier", type=click.Choice(["scorer"]), help="Learn again instead, from the log of steps.")
@click.option("--verify", is_flag=True, help="With --tier: compare the weights with the newest checkpoint's.")
@settings_options()
@json_option
def replay(loaded: LoadedSettings, topic: str | None, tier: str | None, as_json: bool, **options: Any) -> None:
    """Publish a stretch of TOPIC, or a file of its events, once more; or learn the scorer's stream again.

    A deployment drops what it has seen, so a topic goes to another one (--to-prefix, --to-bootstrap-servers).
    With --tier scorer --verify nothing is published: the exit code is 1 where the weights differ in one bit.

    Example: tierstream replay feedback --since 2026-11-01T00:00:00Z --to-prefix trial- --rate 500

    Example: tierstream replay --tier scorer --verify
    """
    verify = options.pop("verify")
    if tier is not None and topic is not None:
        raise click.UsageError("give TOPIC or --tier, not both")
    if tier is not None and not verify:
        raise click.UsageError("--tier needs --verify")
    if tier is not None:
        _verify(loaded.settings, tier, as_json)
    elif topic is not None:
        _republish(loaded.settings, topic, as_json, **options)
    else:
        raise click.UsageError("give TOPIC (experiences, feedback, claude-traces), or --tier scorer --verify")


def _republish(
    settings: Settings,
    topic: str,
    as_json: bool,
    *,
    file: Path | None,
    since: datetime | None,
    until: datetime | None,
    rate: float | None,
    to_prefix: str | None,
    to_bootstrap_servers: str | None,
    dry_run: bool,
) -> None:
    from streams.history.backfill import replay as publish
    from streams.kafka.log_range import TimeRange

    destination = _destination(settings, to_prefix, to_bootstrap_servers)
    if file is None and not dry_run and destination == settings:
        raise click.UsageError("the topic's own deployment drops what it has seen: give --to-prefix or --dry-run")
    with _source(settings, topic, file, TimeRange(since, until)) as source, progress_bar(topic) as progress:
        done = asyncio.run(
            publish(
                source,
                topic,
                None if dry_run else destination,
                rate=rate,
                on_bad=lambda where, reason: click.echo(f"{where}: {reason}", err=True),
                progress=progress,
            )
        )
    took = {"seconds_at_rate": round(done.published / rate, 1)} if rate else {}
    report = {"topic": destination.topic(topic), "dry_run": dry_run, **asdict(done), **took}
    if as_json:
        click.echo(json.dumps(report, indent=2, default=str))
    else:
        verb = "would be published" if dry_run else "published"
        span = f", from {done.first} to {done.last}" if done.first else ""
        click.echo(f"{done.published} {verb} to {destination.topic(topic)}, {done.bad} bad{span}")
    if done.bad:
        click.get_current_context().exit(1)


def _destination(settings: Settings, prefix: str | None, servers: str | None) -> Settings:
    values = settings.model_dump(exclude_unset=False)
    if prefix is not None:
        values["topics"]["prefix"] = prefix
    if servers is not None:
        values["kafka"]["bootstrap_servers"] = servers
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise click.UsageError(error.errors(include_url=False)[0]["msg"]) from error


@contextmanager
def _source(settings: Settings, topic: str, file: Path | None, stretch: TimeRange) -> Iterator[AsyncIterator[Recorded]]:
    from streams.history.backfill import from_lines, from_topic

    if file is None:
        yield from_topic(settings, topic, stretch)
        return
    with open_lines(file) as (lines, size):
        yield from_lines(lines, topic, stretch, size)


def _verify(settings: Settings, tier: str, as_json: bool) -> None:
    from streams.history.verify import verify_scorer

    with progress_bar("relearning") as progress:
        found = asyncio.run(verify_scorer(settings, progress))
    if as_json:
        click.echo(json.dumps({"tier": tier, "agrees": found.agrees, **asdict(found)}, indent=2))
    else:
        verdict = "the same weights, bit for bit" if found.agrees else "OTHER WEIGHTS"
        click.echo(f"{verdict}: checkpoint {found.checkpoint}, replay {found.replayed}")
        click.echo(f"step {found.step}, {found.records} records")
    if not found.agrees:
        click.get_current_context().exit(1)


@click.command()
@click.argument("topics", metavar="TOPIC...", nargs=-1, required=True, type=click.Choice(_PUBLIC))
@click.option("--to", "folder", metavar="DIR", type=click.Path(path_type=Path), required=True, help="Where to.")
@click.option("--format", "form", type=click.Choice(["jsonl", "parquet"]), default="jsonl", show_default=True)
@_stretch_options
@settings_options()
@json_option
def export(
    loaded: LoadedSettings,
    topics: tuple[str, ...],
    folder: Path,
    form: Any,
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
) -> None:
    """Write public topics to DIR, a file each: JSON lines that `produce` and `replay --file` take, or Parquet.

    The time is the broker's. Records that are no event of the topic are left out and counted.

    Example: tierstream export experiences feedback --to backup --format parquet
    """
    from streams.history.export import export as write
    from streams.kafka.log_range import TimeRange

    rows = []
    for topic in topics:
        with progress_bar(topic) as progress:
            done = asyncio.run(write(loaded.settings, topic, folder, form, TimeRange(since, until), progress))
        rows.append({**asdict(done), "path": str(done.path)})
        if not as_json:
            click.echo(f"{done.path}: {done.events} events, {done.bad} bad")
    if as_json:
        click.echo(json.dumps(rows, indent=2))
