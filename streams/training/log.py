"""A job's log: what its process printed, lines of progress among it, attempt after attempt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOG_NAME = "log.txt"
HEADING = "--- attempt "
"""How the line begins that an attempt's output follows."""

_LAST_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of progress."""

    share: float
    """Of the job's work, 0 to 1."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Figures so far; `stage`, `step`, `steps` and `loss` are shown."""


class LogTail:
    """Reads the lines that a job's process appends to its log.

    Args:
        path: the log, which need not be there yet.
        from_start: from its first line on; by default from now on.
    """

    def __init__(self, path: Path, *, from_start: bool = False) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() and not from_start else 0

    def newest_progress(self) -> Progress | None:
        """Return the newest whole line that tells progress, if there is a new one."""
        for line in reversed(self.new_lines()):
            if (progress := parse_progress(line)) is not None:
                return progress
        return None

    def new_lines(self) -> list[bytes]:
        """Return the whole lines since the last call."""
        lines, newline, _ = self._unread().rpartition(b"\n")
        self._offset += len(lines) + len(newline)
        return lines.splitlines() if newline else []

    def rest(self) -> list[bytes]:
        """Return what stands after the last whole line, as one line."""
        return self._unread().splitlines()

    def _unread(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                return file.read()
        except FileNotFoundError:
            return b""


def parse_progress(line: bytes) -> Progress | None:
    """Return the progress that a line of a job's log tells, or None for any other line."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("progress"), (int, float)):
        return None
    metrics = content.get("metrics")
    return Progress(min(max(content["progress"], 0.0), 1.0), metrics if isinstance(metrics, dict) else {})


def last_words(path: Path) -> str | None:
    """Return the newest attempt's last line that is not progress: what a process that crashed said at the end."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LAST_BYTES))
        lines = file.read().splitlines()
    for line in reversed(lines):
        text = line.decode("utf-8", errors="replace").strip()
        if text.startswith(HEADING):
            return None  # an attempt that said nothing
        if text and parse_progress(line) is None:
            return text[:300]
    return None


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested figures or settings by their dotted names."""
    found: dict[str, Any] = {}
    for name, value in nested.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def minutes(seconds: float) -> str:
    """Return a duration in minutes and seconds."""
    whole, rest = divmod(round(seconds), 60)
    return f"{whole} min {rest:02d} s" if whole else f"{rest} s"


def describe(metrics: dict[str, Any]) -> str:
    """Return stage, step and loss of a job's figures in words, as far as they are there."""
    words = [str(metrics["stage"])] if "stage" in metrics else []
    if "step" in metrics:
        words.append(f"step {metrics['step']}" + (f"/{metrics['steps']}" if "steps" in metrics else ""))
    if isinstance(metrics.get("loss"), (int, float)):
        words.append(f"loss {metrics['loss']:.4g}")
    return ", ".join(words)
