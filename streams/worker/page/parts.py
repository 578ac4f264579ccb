"""What pages about one thing are put together of, as HTML; whatever was read is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from streams.audit.blocks import Table, text
from streams.audit.page import linked, page

Links = dict[str, str]
"""By name, as it stands in texts: where it leads."""
MOST_CHARACTERS = 20_000
BACK = (
    '<nav aria-label="Elsewhere"><a href="/">Overview</a> <a href="/dead-letters">Dead letters</a> '
    '<a href="/audit">Audit</a></nav>'
)


def experience_link(experience_id: str) -> str:
    """Return where the story of an experience is told."""
    return f"/explain?experience_id={quote(experience_id, safe='')}"


def error_page(message: str, title: str = "Not found") -> str:
    """Return a page that says why there is no other, or why nothing was done."""
    return whole_page(title, "", [f'<section role="alert">{paragraphs([message])}</section>'], {})


def paragraphs(sentences: Iterable[str]) -> str:
    """Return each as a paragraph."""
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)


def button(text: str, href: str) -> str:
    """Return a link that looks like a button: it leads to a question, and changes nothing."""
    return f'<p><a class="button" href="{escape(href)}">{escape(text)}</a></p>'


def commands(*lines: str) -> str:
    """Return commands to copy."""
    return "".join(f"<p><code>{escape(line)}</code></p>" for line in lines)


def facts_table(rows: Iterable[tuple[str, Any]], title: str = "", *, folded: bool = False) -> Table:
    """Return named values as a table, without those that are not there, and without whole lists of figures."""
    there = ((name, text(value)) for name, value in rows if value not in (None, "") and not isinstance(value, list))
    return Table(title, ("", ""), tuple(there), folded=folded)


def preformatted(lines: Iterable[str]) -> str:
    """Return lines as they stand, as many as a page bears."""
    whole = "\n".join(lines)
    return f'<pre tabindex="0">{escape(whole[:MOST_CHARACTERS])}</pre>'


def whole_page(title: str, subtitle: str, sections: Sequence[str], links: Links) -> str:
    """Return a page of sections, in whose texts the names of `links` lead on."""
    return page(title, subtitle, (BACK, *(linked(section, links) for section in sections)))
