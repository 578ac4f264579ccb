"""Put on a process's path, this makes its disk slow: every fsync takes longer."""

import os
import time

_fsync = os.fsync


def _slow_fsync(descriptor: int) -> None:
    time.sleep(float(os.environ["CHAOS_FSYNC_SECONDS"]))
    _fsync(descriptor)


os.fsync = _slow_fsync  # type: ignore[assignment]
