"""The one way to a terminal: whatever was written by others moves no cursor, sets no title and no clipboard.

What a command prints goes through `neutral_terminal`, whoever prints it: control characters come out as `\\u001b` does,
which a JSON parser reads as the character. Our own colours and bars pass by it, from a `Console` that does the same to
the text between them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import rich.console
from rich.segment import Segment

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""All but tab and line feed; marks that turn the direction of writing, and halves of characters."""


def neutral(text: str) -> str:
    """Return text with its control characters spelled out."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class Neutral:
    """A stream of text that neutralises what is written to it, and is the other in all else."""

    def __init__(self, stream: IO[str]) -> None:
        self.past = stream
        """Writes as it is."""

    def write(self, text: str) -> int:
        """Write neutral text."""
        return self.past.write(neutral(text))

    def writelines(self, lines: Iterable[str]) -> None:
        """Write neutral lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.past, name)


@contextmanager
def neutral_terminal() -> Iterator[None]:
    """Have all that is printed neutralised."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Neutral(sys.stdout), Neutral(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class Console(rich.console.Console):
    """Rich's console, whose styles reach the terminal and whose text is neutral."""

    @property
    def file(self) -> IO[str]:
        """Where it writes."""
        stream = super().file
        return stream.past if isinstance(stream, Neutral) else stream

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def render(self, *arguments: Any, **options: Any) -> Iterable[Segment]:
        """Yield the segments of something, their text neutral."""
        for segment in super().render(*arguments, **options):
            yield segment if segment.control else segment._replace(text=neutral(segment.text))
