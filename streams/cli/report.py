"""Commands that tell about the system itself: `doctor`, `schema`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from schemas.config import LoadedSettings
from schemas.errors import InputError
from streams.cli.options import json_option, settings_options
from streams.cli.tables import print_table


@click.command()
@click.argument("event", required=False)
@click.option("--json-schema", "folder", metavar="DIR", type=click.Path(path_type=Path), help="Write a file an event.")
@click.option("--asyncapi", metavar="FILE", type=click.Path(path_type=Path), help="Write the AsyncAPI 3 document.")
@click.option("--openapi", metavar="FILE", type=click.Path(path_type=Path), help="Write the intake's OpenAPI document.")
@settings_options(broker=False)
def schema(
    loaded: LoadedSettings, event: str | None, folder: Path | None, asyncapi: Path | None, openapi: Path | None
) -> None:
    """Print the JSON Schema of EVENT, or of all events by name, or write them and the documents of topics and intake.

    Example: tierstream schema Feedback
    """
    from streams import contract

    if event is not None and event not in contract.EVENTS:
        raise click.BadParameter(f"{event!r} is not one of {', '.join(contract.EVENTS)}", param_hint="EVENT")
    chosen = {name: contract.json_schema(model) for name, model in contract.EVENTS.items() if event in (None, name)}
    if folder is not None:
        for name, content in chosen.items():
            _write(folder / f"{name}.json", content)
    if asyncapi is not None:
        _write(asyncapi, contract.asyncapi(loaded.settings))
    if openapi is not None:
        _write(openapi, contract.openapi(loaded.settings))
    if folder is None and asyncapi is None and openapi is None:
        click.echo(json.dumps(chosen if event is None else chosen[event], indent=2))


def _write(path: Path, content: object) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}", "name another file or folder") from error
    click.echo(str(path))


@click.command()
@settings_options("web.port", "broker.port", "broker.kind")
@json_option
def doctor(loaded: LoadedSettings, as_json: bool) -> None:
    """Show every setting in effect with its source, and check what a start needs; exit 1 where a check fails.

    Example: tierstream doctor --json
    """
    from streams.audit.doctor import examine

    report = examine(loaded)
    checks = [asdict(check) for check in report["checks"]]
    if as_json:
        click.echo(json.dumps({**report, "checks": checks}, indent=2))
    else:
        print_table([{"setting": key, **entry} for key, entry in report["settings"].items()])
        click.echo(f"\nscorer_parameters: {report['scorer_parameters']:,}\n")
        print_table(checks)
    if any(check["verdict"] == "failed" for check in checks):
        click.get_current_context().exit(1)
