"""One runner at a time has a job; its process holds the lock too, so that it outlives a trainer that is killed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

LOCK_NAME = "lock"


class JobLock:
    """The lock of a job's folder; a context manager that closes it, whether or not it was got."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._file: BinaryIO = self._path.open("a+b")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def fileno(self) -> int:
        """Return the descriptor, for the job's process to hold too."""
        return self._file.fileno()

    def attempt(self) -> bool:
        """Take the lock if nobody has it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._file.truncate(0)  # whoever ran the job before is gone
        return True

    def note_process(self, pid: int) -> None:
        """Write down which process runs the job, for a trainer that comes after this one."""
        self._file.truncate(0)  # the process of an earlier try
        self._file.write(json.dumps({"host": socket.gethostname(), "pid": pid}).encode())
        self._file.flush()

    def end_holder(self) -> bool:
        """End the process that runs the job, where it runs on this machine; only for a lock that somebody has."""
        self._file.seek(0)
        try:
            holder = json.loads(self._file.read())
        except ValueError:
            return False
        if holder["host"] != socket.gethostname():
            return False
        try:
            os.killpg(holder["pid"], signal.SIGTERM)
        except ProcessLookupError:
            return False
        return True


def is_held(folder: Path) -> bool:
    """Whether somebody runs the job now."""
    try:
        with (folder / LOCK_NAME).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
