"""The JSON records of files: lines, an array, or one object; packed with gzip or not; a folder; standard input."""

from __future__ import annotations

import gzip
import io
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from pydantic_core import from_json

from schemas.errors import InputError
from streams.imports.found import Bad, Record

_PATTERNS = ("*.jsonl", "*.json", "*.ndjson", "*.jsonl.gz", "*.json.gz", "*.ndjson.gz")
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_PEEK = 64 * 1024


class Files:
    """The records of files, one after the other.

    Args:
        paths: files, folders (every `.json`, `.jsonl`, `.ndjson` in them, packed or not, at any depth), or `-`.

    Raises:
        InputError: a file or folder is not there, or a folder has no such file.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = [file for path in paths for file in _files_of(path)]
        self.total: int | None = None if Path("-") in self._paths else sum(p.stat().st_size for p in self._paths)
        """Bytes on disk; None where they are not known."""
        self.done = 0
        """Bytes that were read."""
        self.count = 0
        """Records that were read, broken ones too."""

    def read(self) -> Iterator[Record | Bad]:
        """Yield every record, or why it is none.

        Raises:
            InputError: a file cannot be read.
        """
        for path in self._paths:
            try:
                yield from self._read(path)
            except (OSError, EOFError) as error:
                said = getattr(error, "strerror", None) or str(error)
                raise InputError(f"{path} cannot be read: {said}", "name a file or folder of JSON, or -") from error

    def _read(self, path: Path) -> Iterator[Record | Bad]:
        named = f"{path}: " if len(self._paths) > 1 else ""
        is_file, before = str(path) != "-", self.done
        written_at = datetime.fromtimestamp(path.stat().st_mtime if is_file else time.time(), UTC)
        with ExitStack() as stack:
            raw = stack.enter_context(io.FileIO(path) if is_file else io.FileIO(sys.stdin.fileno(), closefd=False))
            for where, data in _pieces(_unpacked(raw, stack)):
                self.done = before + raw.tell() if is_file else 0
                for found in _records(f"{named}{where}", data, written_at):
                    self.count += 1
                    yield found


def _files_of(path: Path) -> list[Path]:
    if str(path) == "-" or path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path} is not there", "name a file, a folder, or - for standard input")
    found = sorted({file for pattern in _PATTERNS for file in path.rglob(pattern) if file.is_file()})
    if not found:
        raise InputError(f"{path} has no file of {', '.join(_PATTERNS)}", "name the files")
    return found


def _unpacked(raw: io.FileIO, stack: ExitStack) -> io.BufferedReader[Any]:
    buffered = stack.enter_context(io.BufferedReader(raw, _PEEK))
    if buffered.peek(2)[:2] != _GZIP:
        return buffered
    return stack.enter_context(io.BufferedReader(gzip.GzipFile(fileobj=buffered), _PEEK))


def _pieces(buffered: io.BufferedReader[Any]) -> Iterator[tuple[str, bytes]]:
    """Yield the place and the bytes of each line; of the whole where it is an array or an object of several lines."""
    if _is_one_value(buffered.peek(_PEEK).removeprefix(_BOM).lstrip()):
        yield "", buffered.read().removeprefix(_BOM)
        return
    for number, line in enumerate(buffered, start=1):
        line = (line.removeprefix(_BOM) if number == 1 else line).strip()
        if line:
            yield f"line {number}", line


def _is_one_value(head: bytes) -> bool:
    """Whether a file begins as an array, or as an object that goes on in the next line, as an indented one does."""
    if head.startswith(b"["):
        return True
    first, _, rest = head.partition(b"\n")
    if not first.startswith(b"{") or not rest.strip() or rest.lstrip().startswith(b"{"):
        return False
    try:
        from_json(first)
    except (ValueError, RecursionError):
        return True
    return False


def _records(where: str, data: bytes, written_at: datetime) -> Iterator[Record | Bad]:
    try:
        value = from_json(data, allow_inf_nan=False)
    except (ValueError, RecursionError) as error:
        yield Bad(where or "the file", f"not JSON: {error}")
        return
    elements = _elements(value)
    if elements is None:
        yield Record(where or "the file", value, written_at)
        return
    for number, element in enumerate(elements, start=1):
        yield Record(f"{where}{' ' if where else ''}element {number}", element, written_at)


def _elements(value: JsonValue) -> list[JsonValue] | None:
    """Return the elements of an array, or of a page as list endpoints answer with (`{"data": [...]}`)."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and isinstance(value.get("data"), list) and ("meta" in value or "object" in value):
        return value["data"]  # type: ignore[return-value]
    return None
