"""The audit on a terminal."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table as RichTable

from streams.audit.blocks import Bars, Block, Note, Table, worth_showing
from streams.audit.document import Document
from streams.terminal import Console

_STATE_STYLE = {"COMPLETED": "green", "RUNNING": "cyan", "SKIPPED": "yellow"}
SEVERITY_STYLE = {"critical": "bold red", "warning": "yellow", "info": "dim"}
_BAR_WIDTH = 24


def show(document: Document, console: Console) -> None:
    """Print the document."""
    console.print(f"[bold]{escape(document.title)}[/]  [dim]{escape(document.subtitle)}[/]")
    for card in document.cards:
        style = _STATE_STYLE[card.state]
        console.print(f"\n[bold]{escape(card.title)}[/]  [{style}]{card.state}[/]  {escape(card.headline)}")
        console.print(f"  {escape(card.why)}")
    console.print("\n[bold]Findings[/]" if document.findings else "\n[green]No findings.[/]")
    for finding in document.findings:
        console.print(f"  [{SEVERITY_STYLE[finding.severity]}]{finding.severity}[/]  {escape(finding.text)}")
        console.print(f"    [dim]{escape(finding.remedy)}[/]")
    for section in document.sections:
        console.rule(f"[bold]{escape(section.title)}[/]", align="left")
        for block in worth_showing(section.blocks):
            _show_block(block, console)


def _show_block(block: Block, console: Console) -> None:
    if isinstance(block, Note):
        console.print(escape(block.text))
    elif isinstance(block, Bars):
        table = RichTable(title=escape(block.title), title_justify="left", box=None, show_header=False)
        for bar in block.bars:
            length = round(bar.share * _BAR_WIDTH)
            drawn = ("█" * length or ("▏" if bar.share else "")).ljust(_BAR_WIDTH)
            table.add_row(escape(bar.label), f"[{'green' if bar.kept else 'red'}]{drawn}[/]", escape(bar.text))
        console.print(table)
    else:
        console.print(_table(block))


def _table(block: Table) -> RichTable:
    table = RichTable(title=escape(block.title), title_justify="left", box=None, header_style="dim")
    for name in block.columns:
        table.add_column(escape(name), overflow="fold")
    for place, row in enumerate(block.rows):
        table.add_row(*map(escape, row), style="bold red" if place in block.marked else None)
    return table
