"""The pause switch of Tier 1's learning: a file that every worker of the data directory looks at."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from trainers.files import sync_folder, write_atomically

PAUSED = "paused.json"


class LearningPause:
    """Whether learning is paused; survives every restart."""

    def __init__(self, data_dir: Path | str) -> None:
        self._path = Path(data_dir) / "scorer" / PAUSED

    @property
    def is_on(self) -> bool:
        """Whether learning is paused; cheap enough to ask for every batch."""
        return self._path.exists()

    def since(self) -> str | None:
        """Return when learning was paused, None where it is not."""
        try:
            return str(json.loads(self._path.read_bytes())["since"])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError):
            return "an unknown time"

    def pause(self) -> bool:
        """Pause; return whether it was not paused before.

        Raises:
            OSError: the file cannot be written.
        """
        if self.is_on:
            return False
        since = datetime.now(UTC).isoformat(timespec="seconds")
        write_atomically(self._path, json.dumps({"since": since}).encode())
        return True

    def resume(self) -> bool:
        """Go on; return whether it was paused before.

        Raises:
            OSError: the file cannot be removed.
        """
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        sync_folder(self._path.parent)
        return True
