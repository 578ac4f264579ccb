"""The audit as one HTML page that needs nothing else: no script, no font, no other file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib import resources

from streams.audit.blocks import Bars, Block, Note, Section, Table, worth_showing
from streams.audit.document import Card, Document
from streams.audit.report import Finding

STYLE = resources.files("streams.worker.page").joinpath("base.css").read_text("utf-8")
"""Of every page, which has it within itself."""

_NUMERIC = frozenset("0123456789.,+-%/() e")


def to_html(document: Document, above: str = "") -> str:
    """Return the document as a page, with more HTML above it; everything that was read is escaped."""
    return page(
        document.title,
        document.subtitle,
        (
            above,
            '<section class="cards" aria-label="Tiers">',
            *map(_card, document.cards),
            "</section>",
            *_findings(document.findings),
            "<nav aria-label='Sections'>",
            *(f'<a href="#{s.name}">{escape(s.title)}</a>' for s in document.sections),
            "</nav>",
            *map(section_html, document.sections),
        ),
    )


def page(title: str, subtitle: str, body: Iterable[str]) -> str:
    """Return a whole page.

    Args:
        title: text.
        subtitle: text.
        body: HTML.
    """
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header><main>",
            *body,
            "</main></body></html>",
            "",
        )
    )


def linked(html: str, links: Mapping[str, str]) -> str:
    """Return the HTML with every name of `links` in its texts made a link to where that leads."""
    if not links:
        return html
    names = "|".join(re.escape(escape(name)) for name in sorted(links, key=len, reverse=True))
    found = re.compile(rf"(?<![\w-])({names})(?![\w-])")
    hrefs = {escape(name): escape(href) for name, href in links.items()}
    # What stands between tags is text, as everything that was read is escaped.
    return "".join(
        part if part.startswith("<") else found.sub(lambda name: f'<a href="{hrefs[name[1]]}">{name[1]}</a>', part)
        for part in re.split("(<[^>]*>)", html)
    )


def _card(card: Card) -> str:
    progress = ""
    if card.progress is not None:
        progress = f'<progress max="1" value="{card.progress:.4f}" aria-label="{escape(card.headline)}"></progress>'
    number, _, unit = card.headline.rpartition(" ") if card.progress is None else card.headline.partition(" / ")
    number_html = f"<b>{escape(number)}</b><span>{'/ ' if card.progress is not None else ''}{escape(unit)}</span>"
    return (
        f'<article class="card"><h2>{escape(card.title)}</h2>'
        f'<span class="state {card.state.lower()}">{card.state}</span>'
        f'<p class="number">{number_html}</p>{progress}<p>{escape(card.why)}</p></article>'
    )


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    yield '<section class="findings"><h2>Findings</h2>'
    if not findings:
        yield '<p class="good">Nothing was found.</p>'
    for finding in findings:
        yield (
            f'<div class="finding {finding.severity}"><span class="severity">{finding.severity}</span>'
            f"<div><p>{escape(finding.text)}</p><p class='remedy'>{escape(finding.remedy)}</p></div></div>"
        )
    yield "</section>"


def section_html(section: Section, *more: str) -> str:
    """Return a section, with more HTML at its end."""
    blocks = (line for block in worth_showing(section.blocks) for line in _block(block))
    heading = f'<section id="{section.name}"><h2>{escape(section.title)}</h2>'
    return "\n".join((heading, *blocks, *more, "</section>"))


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Note):
        yield f"<p>{escape(block.text)}</p>"
    elif isinstance(block, Bars):
        yield f"<h3>{escape(block.title)}</h3><div class='bars'>"
        for bar in block.bars:
            kind, label = "kept" if bar.kept else "lost", escape(bar.label)
            share = f"{max(bar.share, 0.004 if bar.share else 0.0):.4f}"
            yield (
                f'<div class="bar {kind}"><span>{label}</span>'
                f'<progress max="1" value="{share}" aria-label="{label}"></progress>'
                f"<span>{escape(bar.text)}</span></div>"
            )
        yield "</div>"
    else:
        yield from _table(block)


def _table(table: Table) -> Iterator[str]:
    numeric = [
        bool(table.rows) and all(_is_numeric(row[place]) for row in table.rows) for place in range(len(table.columns))
    ]
    heading = f"<h3>{escape(table.title)}</h3>" if table.title else ""
    if table.folded:
        heading = f"<details><summary>{escape(table.title)}</summary>"
    yield f"{heading}<div class='scroll'><table><thead><tr>"
    for place, name in enumerate(table.columns):
        yield f"<th scope='col'{_right(numeric[place])}>{escape(name)}</th>"
    yield "</tr></thead><tbody>"
    for number, row in enumerate(table.rows):
        cells = "".join(
            f'<td{_right(numeric[place])} data-label="{escape(table.columns[place])}">{escape(cell)}</td>'
            for place, cell in enumerate(row)
        )
        yield f"<tr{' class=marked' if number in table.marked else ''}>{cells}</tr>"
    yield f"</tbody></table></div>{'</details>' if table.folded else ''}"


def _is_numeric(cell: str) -> bool:
    return set(cell) <= _NUMERIC


def _right(numeric: bool) -> str:
    return " class=right" if numeric else ""
