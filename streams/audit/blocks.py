"""What a report is made of, however it is shown: sections of tables, bars and sentences. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under headings."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: frozenset[int] = frozenset()
    """Rows that deserve attention."""
    folded: bool = False
    """Whether a page shows the title alone until it is asked for more."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A share of a whole, with what it says."""

    label: str
    share: float
    """From 0 to 1."""
    text: str
    kept: bool = False
    """What is left, rather than what is lost."""


@dataclass(frozen=True, slots=True)
class Bars:
    """Shares below one another."""

    title: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence."""

    text: str


Block = Table | Bars | Note


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what belongs to it."""

    name: str
    title: str
    blocks: tuple[Block, ...]


def text(value: Any) -> str:
    """Return a value as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def worth_showing(blocks: Sequence[Block]) -> list[Block]:
    """Return the blocks that hold something."""
    return [block for block in blocks if not isinstance(block, Table) or block.rows]
