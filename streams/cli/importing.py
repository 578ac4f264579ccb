"""Command `import`."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from schemas.config import LoadedSettings
from streams.cli.lines import progress_bar
from streams.cli.options import json_option, settings_options
from streams.cli.tables import print_table

if TYPE_CHECKING:
    from streams.history.importing import Imported


class _Scale(click.ParamType):
    name = "LOW:HIGH"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        try:
            low, high = (float(end) for end in str(value).split(":"))
        except ValueError:
            self.fail(f"{value!r} is not two numbers with a colon between, such as 1:5", param, ctx)
        if low == high:
            self.fail(f"{value!r} has no room between its ends", param, ctx)
        return low, high


def _list_formats(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from streams.imports.registry import formats

        print_table([{"format": one.name, "takes": one.about} for one in formats().values()])
        context.exit()


@click.command("import")
@click.argument("form", metavar="FORMAT")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_list_formats, help="List formats.")
@click.option("--intent", metavar="NAME|.FIELD", help="Intent type: a constant, or a field of the record.")
@click.option("--domain", metavar="NAME|.FIELD", help="Domain of the intent, likewise.")
@click.option("--scale", type=_Scale(), default="0:1", show_default=True, help="The worst and the best score.")
@click.option("--confidence", type=click.FloatRange(0, 1), metavar="C", help="Of judgements that bring none.")
@click.option("--dry-run", is_flag=True, help="Publish nothing; say what each tier would get.")
@settings_options()
@json_option
def import_(
    loaded: LoadedSettings,
    form: str,
    files: tuple[Path, ...],
    intent: str | None,
    domain: str | None,
    scale: tuple[float, float],
    confidence: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take in what other systems logged: FILE..., a folder, or - for standard input, packed with gzip or not.

    FORMAT is one of `import --list`, or auto to go by the looks of the first records. Ids follow from the source, so
    that a second import adds nothing. What is not of the format is named, the rest goes in, and the exit code is 1.

    Example: tierstream import langfuse export/ --dry-run
    """
    from streams.history.importing import import_files
    from streams.imports.events import Making
    from streams.imports.registry import AUTO, formats

    if form != AUTO and form not in formats():
        raise click.BadParameter(f"{form!r} is not one of {AUTO}, {', '.join(formats())}", param_hint="FORMAT")
    with progress_bar("import") as progress:
        done = asyncio.run(
            import_files(
                files,
                formats().get(form),
                Making(intent, domain, scale, confidence),
                loaded.settings,
                dry_run=dry_run,
                on_bad=lambda where, reason: click.echo(f"{where}: {reason}", err=True),
                progress=progress,
            )
        )
    (_print_json if as_json else _print)(done)
    if done.bad:
        click.get_current_context().exit(1)


def _print(done: Imported) -> None:
    verb = "would be delivered" if done.preview is not None else "delivered"
    parts, became = len(done.places), Counter(done.places.values())
    read = f"{done.records} records read" + (f", {parts} parts" if parts != done.records else "")
    told = " + ".join(f"{became[name]} {name}" for name in ("with events", "left out", "bad"))
    click.echo(f"{done.format}: {read} = {told}")
    print_table(
        [{"what": topic, "count": number, "": verb} for topic, number in sorted(done.events.items())]
        + [{"what": reason, "count": number, "": "left out"} for reason, number in done.left_out.most_common()]
        + ([{"what": "not of the format", "count": done.bad, "": "bad"}] if done.bad else [])
    )
    if done.preview is not None:
        click.echo("by themselves:")
        for tier, line in done.preview.lines():
            click.echo(f"  {tier}: {line}")
        if done.preview.unsure:
            click.echo(
                f"{done.preview.unsure} good answers wait for a confidence: --confidence, or pairs.user_confidence"
            )


def _print_json(done: Imported) -> None:
    import json

    told = {
        "format": done.format,
        "records": done.records,
        "events": dict(done.events),
        "left_out": dict(done.left_out),
        "bad": done.bad,
    }
    preview = {} if done.preview is None else {"preview": dict(done.preview.lines())}
    click.echo(json.dumps(told | preview, indent=2))
