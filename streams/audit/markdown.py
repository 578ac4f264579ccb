"""The audit as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from streams.audit.blocks import Bars, Block, Note, worth_showing
from streams.audit.document import Document


def to_markdown(document: Document) -> str:
    """Return the document as Markdown with GitHub's tables."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Document) -> Iterator[str]:
    yield from (f"# {document.title}", "", document.subtitle, "")
    yield from _table(
        ("tier", "state", "have", "why"), [(c.title, f"**{c.state}**", c.headline, c.why) for c in document.cards]
    )
    yield from ("## Findings", "")
    for finding in document.findings:
        yield f"- **{finding.severity}**: {_plain(finding.text)}. *{_plain(finding.remedy)}*"
    yield ""
    for section in document.sections:
        yield from (f"## {section.title}", "")
        for block in worth_showing(section.blocks):
            yield from _block(block)


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Note):
        yield from (block.text, "")
        return
    yield from (f"### {block.title}", "")
    if isinstance(block, Bars):
        yield from _table(("", "share", ""), [(bar.label, f"{bar.share:.2%}", bar.text) for bar in block.bars])
    else:
        yield from _table(block.columns, block.rows)


def _table(columns: tuple[str, ...], rows: object) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:  # type: ignore[attr-defined]
        yield f"| {' | '.join(_plain(cell) for cell in row)} |"
    yield ""


def _plain(text: str) -> str:
    """Return text that neither ends a cell nor turns into markup or HTML."""
    for character in "\\`*_[]<>|":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")
