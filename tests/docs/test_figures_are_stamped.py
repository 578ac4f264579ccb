"""Every table of figures in docs has a line `Measured: commit, date, machine` in its section or one around it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
STAMP = re.compile(r"^Measured: commit [0-9a-f]{7,40}, \d{4}-\d{2}-\d{2}, \S.*\.", re.MULTILINE)
NUMBER = re.compile(r"[-+±~<>≤≥]?\s*\d[\d,.]*\s*(?:[%x\u00d7]|[A-Za-zµ]{1,4})?(?:\s*/\s*\d[\d,.]*.*)?$")
CELLS = 4
"""A table with fewer numbers in it tells of settings rather than of what was measured."""


def sections(text: str) -> Iterator[tuple[str, str, str]]:
    """Return heading, text, and text with that of the sections around it, of each section; code holds no headings."""
    text = re.sub(r"^(`{3,})[^\n]*\n.*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    around: list[tuple[int, str]] = []
    for part in re.split(r"^(?=#{1,6} )", text, flags=re.MULTILINE):
        heading = part.partition("\n")[0]
        depth = len(heading) - len(heading.lstrip("#"))
        around = [*((of, own) for of, own in around if of < depth), (depth, part)]
        yield heading.lstrip("# "), part, "".join(own for _, own in around)


def numbers(section: str) -> int:
    """Count the cells with a number of the rows most of whose cells, but the first, hold one."""
    count = 0
    for line in section.splitlines():
        cells = [cell.strip(" *`") for cell in line.strip().strip("|").split("|")[1:]] if line.startswith("|") else []
        found = sum(NUMBER.match(cell) is not None for cell in cells)
        count += found if 2 * found > len(cells) else 0
    return count


def unstamped(text: str) -> list[str]:
    """Return the headings of the sections with figures that no stamp stands by."""
    return [heading for heading, part, whole in sections(text) if numbers(part) >= CELLS and not STAMP.search(whole)]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_figures_are_stamped(path: Path) -> None:
    assert unstamped(path.read_text("utf-8")) == []


def test_a_figure_without_a_stamp_is_found() -> None:
    table = "| fault | lost | s |\n|---|---:|---:|\n| a | 0 | 6.3 |\n| b | 1,200 | 73.8 s |\n"
    assert unstamped(f"# Doc\n\n## Speed\n\n{table}") == ["Speed"]
    assert unstamped(f"## Speed\n\n{table}\nMeasured: today.\n") == ["Speed"]
    stamp = "Measured: commit 0123abc, 2026-11-28, two cores.\n\n"
    assert unstamped(f"# Doc\n\n## Speed\n\n{stamp}{table}") == []
    assert unstamped(f"# Doc\n\n{stamp}## Speed\n\n{table}") == []
    assert unstamped(f"# Doc\n\n## Size\n\n{stamp}## Speed\n\n{table}") == ["Speed"]
    assert unstamped("## Settings\n\n| setting | by default |\n|---|---|\n| rank | 32 |\n") == []
