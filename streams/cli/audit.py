"""`audit`: what is in effect, what was learned, and what stands in the way; and the story of one experience."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
import orjson
from rich.progress import Progress

from schemas.config import LoadedSettings
from streams.cli.options import json_option, settings_options
from streams.terminal import Console

if TYPE_CHECKING:
    from streams.audit.report import Report


@click.command()
@settings_options("web.port")
@json_option
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.option("--html", "as_html", is_flag=True, help="Print a page that needs nothing else.")
@click.option("--explain", metavar="EXPERIENCE_ID", help="Tell the story of one experience through every tier.")
def audit(loaded: LoadedSettings, as_json: bool, markdown: bool, as_html: bool, explain: str | None) -> None:
    """Report what every tier runs with, what it learned from, what it lacks, and what is wrong; exit 1 if critical.

    It reads the broker and the data directory, so it tells the same while the worker is dead.

    Example: tierstream audit --html > audit.html
    """
    if as_json + markdown + as_html > 1 or (explain and (markdown or as_html)):
        raise click.UsageError("choose one of --json, --markdown, --html and, with none but --json, --explain")
    if explain:
        _explain(loaded, explain, as_json)
        return
    report = _make(loaded)
    _show(report, as_json, markdown, as_html)
    if report.critical:
        click.get_current_context().exit(1)


def _make(loaded: LoadedSettings) -> Report:
    from streams.audit.collect import collect
    from streams.audit.figures import make_report

    with Progress(*Progress.get_default_columns()[:1], console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        read = 0

        def progress(topic: str, count: int) -> None:
            nonlocal read
            read += count
            bar.update(task, description=f"reading {topic}: {read:,} records")

        return make_report(asyncio.run(collect(loaded, os.environ, progress)))


def _show(report: Report, as_json: bool, markdown: bool, as_html: bool) -> None:
    from streams.audit.document import lay_out

    if as_json:
        sys.stdout.write(
            orjson.dumps(asdict(report), option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode() + "\n"
        )
    elif markdown:
        from streams.audit.markdown import to_markdown

        sys.stdout.write(to_markdown(lay_out(report)))
    elif as_html:
        from streams.audit.page import to_html

        sys.stdout.write(to_html(lay_out(report)))
    else:
        from streams.audit.terminal import show

        show(lay_out(report), Console(width=None if sys.stdout.isatty() else 140))


def _explain(loaded: LoadedSettings, experience_id: str, as_json: bool) -> None:
    from streams.audit.explain import story
    from streams.audit.explain import tell as tell_story

    found = asyncio.run(story(loaded.settings, experience_id))
    if as_json:
        sys.stdout.write(orjson.dumps(asdict(found), option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        tell_story(found, Console(width=None if sys.stdout.isatty() else 140))
