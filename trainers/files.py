"""Atomic file writes and exclusive claims, the two ways in which processes share a data directory."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from pathlib import Path
from tempfile import TemporaryDirectory

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]+\.tmp")


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds either its old content or all of the new, also after a crash.

    Raises:
        OSError: the folder is read-only or the disk is full; the old content stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def temporary_path(path: Path) -> Path:
    """Return where the content of `path` may be written before it is renamed to it: a name that nobody else takes.

    A process id would not do: containers that share a folder have the same ones.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def is_temporary(path: Path) -> bool:
    """Tell whether a file is an atomic write that has not ended, or never will since its process was killed."""
    return _TEMPORARY.fullmatch(path.name) is not None


def missing_guarantee(folder: Path) -> str | None:
    """Try what processes that share `folder` rely on; return the first that it does not give.

    Raises:
        OSError: nothing can be written there.
    """
    with TemporaryDirectory(prefix=".tried-", dir=folder) as tried:
        one, other = Path(tried) / "one", Path(tried) / "other"
        one.write_bytes(b"1")
        other.write_bytes(b"2")
        try:
            other.replace(one)
        except OSError:
            return "a rename that replaces its target"
        if one.read_bytes() != b"2" or other.exists():
            return "a rename that replaces its target"
        try:
            os.close(os.open(one, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            return "creation that fails where a file is there"
        except FileExistsError:
            pass
        with one.open("ab") as first, one.open("ab") as second:
            try:
                fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return "locks (flock)"
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return "locks (flock) that another opener sees"
            except OSError:
                pass
            try:
                os.fsync(first.fileno())
                sync_folder(Path(tried))
            except OSError:
                return "fsync"
    return None


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def claim_number(folder: Path, template: str) -> tuple[int, Path]:
    """Create the file of the next number exclusively and return number and path.

    Args:
        folder: where the numbered files are; made if absent.
        template: a name with one `{}` for the number, `epoch-{}` for one.

    Two processes never get the same number, on any shared POSIX folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before, after = template.split("{}")
    pattern = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    number = 1 + max((int(m[1]) for p in folder.iterdir() if (m := pattern.fullmatch(p.name))), default=0)
    while True:
        path = folder / template.format(number)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            number += 1
            continue
        sync_folder(folder)
        return number, path
