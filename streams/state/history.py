"""What a deployment was at over the last day: a line of JSON a sample, in one file an hour of the data directory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

FOLDER = "history"
KEPT_SECONDS = 86_400.0
_FILES = 26
"""An hour more than a day has, for the hour that has begun."""


class History:
    """Samples in the order of their time; each line is whole or left out.

    Args:
        data_dir: of the deployment.
    """

    def __init__(self, data_dir: Path | str) -> None:
        self._folder = Path(data_dir) / FOLDER

    def append(self, sample: Mapping[str, Any]) -> None:
        """Keep a sample, whose `at` is epoch seconds; files older than a day go.

        Raises:
            OSError: the data directory cannot be written.
        """
        path = self._path(sample["at"])
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            for old in sorted(self._folder.glob("*.jsonl"))[: -_FILES + 1]:
                old.unlink(missing_ok=True)
        with path.open("ab") as file:
            file.write(orjson.dumps(sample) + b"\n")

    def read(self, seconds: float = KEPT_SECONDS) -> list[dict[str, Any]]:
        """Return the samples of the last `seconds`, the oldest first."""
        since = time.time() - seconds
        first = self._path(since).name
        lines = (
            line
            for path in sorted(self._folder.glob("*.jsonl"))
            if path.name >= first
            for line in path.read_bytes().splitlines()
        )
        return sorted((s for line in lines if (s := _decoded(line)) and s["at"] >= since), key=lambda s: s["at"])

    def _path(self, at: float) -> Path:
        return self._folder / f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H}.jsonl"


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        sample = orjson.loads(line)
    except orjson.JSONDecodeError:  # a line that a crash has cut
        return None
    return sample if isinstance(sample, dict) and isinstance(sample.get("at"), int | float) else None
