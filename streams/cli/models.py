"""Command group `models`: trained versions of all lines, and which one is in use."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import click

from schemas.config import LoadedSettings
from schemas.events import ModelLine, ModelVersion
from schemas.versions import BASES, TIERS, VersionRecord, line_of
from streams.cli.changes import change_settings_option, settings_with
from streams.cli.model_export import export
from streams.cli.options import json_option, settings_options
from streams.cli.tables import print_table

_line_argument = click.argument("line", type=click.Choice(list(TIERS)))
_version_argument = click.argument("version", metavar="VERSION")
_reason_option = click.option("--reason", metavar="TEXT", help="Why; it stands in the history and in the event.")


@click.group()
def models() -> None:
    """List, compare, promote and roll back trained versions; each takes --config, --data-dir and --json.

    Example: tierstream models list
    """


@models.command("list")
@click.option("--line", type=click.Choice(list(TIERS)), help="Only this line.")
@settings_options(broker=False)
@json_option
def list_versions(loaded: LoadedSettings, line: ModelLine | None, as_json: bool) -> None:
    """List the versions, the oldest first, and mark those in use.

    Jobs of all tiers make one line, `policy`: each continues from the version in use, whichever tier made that.

    Example: tierstream models list --line policy
    """
    store, rows = _store(loaded), []
    undecided = store.missing_start()
    for each in (line,) if line else TIERS:
        in_use, versions = store.in_use(each).version, store.versions(each)
        if versions and each in BASES:
            is_base = in_use is None and undecided is None
            row = {"version": BASES[each], "in_use": is_base, "status": "base", "created_at": None}
            rows.append({**row, "parent_version": None, "reason": "the base model itself"})
        rows += [
            {
                "version": record.version,
                "in_use": record.version == in_use,
                "status": record.status,
                "created_at": record.created_at.isoformat(timespec="seconds"),
                "parent_version": record.parent_version,
                "reason": record.reason,
            }
            for record in versions
        ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        print_table([{**row, "in_use": "*" if row["in_use"] else ""} for row in rows])
    else:
        click.echo("no versions yet: jobs add them at their thresholds, and `tierstream retrain` adds scorers")
    if undecided is not None:
        click.echo(f"no policy is in use: {undecided}", err=True)


@models.command()
@_version_argument
@click.option("--lineage", is_flag=True, help="Also the examples that it was trained on, one JSON line each.")
@settings_options(broker=False)
@json_option
def show(loaded: LoadedSettings, version: str, lineage: bool, as_json: bool) -> None:
    """Show what a version is made of, how it was judged and when it was in use.

    Example: tierstream models show dpo-0123456789ab --lineage
    """
    from trainers.versions.store import LINEAGE

    store = _store(loaded)
    record = store.get(version)
    history = [s.model_dump(mode="json") for s in store.in_use(line_of(version)).history if s.version == version]
    told = {**_plain(record), "folder": str(store.folder(version)), "history": history}
    path = store.folder(version) / LINEAGE
    lines = path.read_text("utf-8").splitlines() if lineage and path.exists() else []
    if as_json:
        click.echo(json.dumps({**told, "lineage": [json.loads(line) for line in lines]} if lineage else told, indent=2))
        return
    print_table([{"field": key, "value": _short(value)} for key, value in told.items()])
    if lineage:
        click.echo(f"\nlineage: {len(lines)} examples" if lines else "\nlineage: this version came without one")
        for line in lines:
            click.echo(line)


@models.command()
@_version_argument
@_reason_option
@change_settings_option
@settings_options()
@json_option
def promote(loaded: LoadedSettings, version: str, reason: str | None, change_settings: bool, as_json: bool) -> None:
    """Put a version into use, whatever its gate said, and tell consumers.

    What was in use, the live scorer too, stays a version that `rollback` goes back to. A version that the settings do
    not fit, as a scorer of another rank, is only put into use together with its settings.

    Example: tierstream models promote dpo-0123456789ab --reason "reviewed by hand"
    """
    from trainers import promotion

    with settings_with(loaded, version, change_settings) as change:
        event = promotion.promote(loaded.settings, version, reason or "by hand", change.values)
    _tell(loaded, event, as_json, change.told)


@models.command()
@_line_argument
@click.option("--to", metavar="VERSION", help="Back to this one; by default the one before.")
@_reason_option
@change_settings_option
@settings_options()
@json_option
def rollback(
    loaded: LoadedSettings, line: ModelLine, to: str | None, reason: str | None, change_settings: bool, as_json: bool
) -> None:
    """Go back to what was in use before, of the policies in the end the base model (policy-base), and tell consumers.

    Example: tierstream models rollback scorer --reason "worse in the night shift"
    """
    from trainers import promotion

    target = promotion.rollback_target(loaded.settings, line, to)
    with settings_with(loaded, target, change_settings) as change:
        event = promotion.rollback(loaded.settings, line, target, reason or "", change.values)
    _tell(loaded, event, as_json, change.told)


@models.command()
@click.argument("one", metavar="VERSION")
@click.argument("other", metavar="OTHER")
@settings_options(broker=False)
@json_option
def diff(loaded: LoadedSettings, one: str, other: str, as_json: bool) -> None:
    """Show in what two versions differ: settings, figures, data, files.

    Example: tierstream models diff dpo-0123456789ab dpo-ba9876543210
    """
    store = _store(loaded)
    sides = [_flat(_plain(store.get(name))) for name in (one, other)]
    keys = sorted({*sides[0], *sides[1]})
    rows = [
        {"field": key, one: sides[0].get(key), other: sides[1].get(key)}
        for key in keys
        if sides[0].get(key) != sides[1].get(key)
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        print_table([{key: _short(value) for key, value in row.items()} for row in rows])
    else:
        click.echo("they do not differ")


def _store(loaded: LoadedSettings) -> Any:
    from trainers.versions import VersionStore

    return VersionStore(loaded.settings.data_dir)


def _tell(loaded: LoadedSettings, event: ModelVersion, as_json: bool, changed: str = "") -> None:
    """Publish the change, and say it."""
    from streams.training.model_versions import announce

    asyncio.run(announce(loaded.settings, event))
    if as_json:
        click.echo(event.to_json().decode())
    else:
        click.echo(f"{event.version} is in use: {event.reason}{changed}")


def _plain(record: VersionRecord) -> dict[str, Any]:
    return record.model_dump(mode="json", exclude={"schema_version"})


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    inner = (_flat(part, f"{prefix}.{key}" if prefix else key) for key, part in value.items())
    return {key: part for flat in inner for key, part in flat.items()}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else "-" if value in (None, {}, []) else json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."


models.add_command(export)
