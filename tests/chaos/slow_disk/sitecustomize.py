"""Put on a process's path, this makes its disk slow while a file is there: every fsync takes as long as it says."""

import os
import time
from pathlib import Path

_fsync = os.fsync
_place = Path(os.environ["CHAOS_SLOW_FSYNC"])


def _slow_fsync(descriptor: int) -> None:
    try:
        seconds = float(_place.read_text("ascii"))
    except FileNotFoundError:
        seconds = 0.0
    time.sleep(seconds)
    _fsync(descriptor)


os.fsync = _slow_fsync  # type: ignore[assignment]
