"""What on disk nobody needs any more: checkpoints of jobs that have ended, old jobs, versions that were never in use,
and what a crash left behind.

Never chosen: a job that has not ended or has failed, since it can be tried again; a version that is or was in use,
since one can go back to it; what a kept version continues from, or was trained by; anything of the last day, but for
files of writes that never ended, which go after an hour.
"""

from __future__ import annotations

import fcntl
import json
import logging
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from schemas.settings import RetentionSettings, Settings
from schemas.versions import TIERS, VersionRecord
from trainers.files import is_temporary
from trainers.jobs.snapshot import CHECKPOINTS, RESULT_NAME
from trainers.versions import VersionStore

log = logging.getLogger("tierstream")

GRACE_SECONDS = 86400.0
"""What is younger than this is never chosen: somebody may just be about to use it."""
WRITE_SECONDS = 3600.0
"""No write of a file takes so long: what is older was left by a process that was killed in the middle of one."""

_LOCK = "lock"
_LEFT = (".pruned-", ".staging-")
_DONE = ("finished", "validated")
_WRITTEN = (".", "scorer", "scorer/*", "jobs/*", "models/*", "models/*/*", "state", "broker")
"""Where files are written atomically, below the data directory."""


@dataclass(frozen=True, slots=True)
class Superfluous:
    """A folder or a file that can go."""

    path: Path
    reason: str
    lock: Path | None = None
    """File that whoever still uses the folder holds locked."""


def superfluous(settings: Settings, now: float) -> list[Superfluous]:
    """Return what can go; nothing is touched.

    Args:
        settings: `data_dir` and `retention`.
        now: epoch seconds.

    Raises:
        VersionError: a version's manifest or a history of use cannot be read.
    """
    data_dir = Path(settings.data_dir)
    store = VersionStore(data_dir)
    lines = {line: store.versions(line) for line in TIERS}
    gone = [
        record
        for records in lines.values()
        for record in unused(
            records, [one.version for one in records if one.status == "promoted"], settings.retention, now
        )
    ]
    names = {record.version for record in gone}
    kept = [record for records in lines.values() for record in records if record.version not in names]
    jobs = {record.job_id for record in kept}
    found = [Superfluous(store.folder(one.version), "a version that was never in use") for one in gone]
    found += _of_jobs(data_dir, jobs, settings.retention, now)
    return found + list(_left_over(data_dir, now)) + unfinished_writes(data_dir, now)


def unfinished_writes(data_dir: Path, now: float) -> list[Superfluous]:
    """Return the files of atomic writes that a crash has cut off."""
    found = []
    for place in _WRITTEN:
        for path in sorted(data_dir.glob(f"{place}/.*.tmp")):
            with suppress(FileNotFoundError):  # it has just been renamed
                if is_temporary(path) and now - path.stat().st_mtime > WRITE_SECONDS:
                    found.append(Superfluous(path, "a write that a crash cut off"))
    return found


def unused(
    records: list[VersionRecord], used: Iterable[str], retention: RetentionSettings, now: float
) -> list[VersionRecord]:
    """Return the versions of a line that can go.

    Args:
        records: all of the line, the oldest first.
        used: names of those that are or were in use.
        retention: how many others are kept.
        now: epoch seconds.
    """
    parents = {record.version: record.parent_version for record in records}
    needed = _with_ancestors(set(used), parents)
    others = [record for record in records if record.version not in needed]
    old = others[: -retention.versions] if retention.versions else others
    candidates = {one.version for one in old if now - one.created_at.timestamp() > GRACE_SECONDS}
    needed = _with_ancestors({record.version for record in records} - candidates, parents)
    return [record for record in records if record.version not in needed]


def _with_ancestors(names: set[str], parents: dict[str, str | None]) -> set[str]:
    found: set[str] = set()
    for name in names:
        next_one: str | None = name
        while next_one is not None and next_one not in found:
            found.add(next_one)
            next_one = parents.get(next_one)
    return found


def _of_jobs(
    data_dir: Path, referenced: set[str | None], retention: RetentionSettings, now: float
) -> Iterator[Superfluous]:
    for result in sorted((data_dir / "jobs").glob(f"*/{RESULT_NAME}")):
        folder = result.parent
        age = now - result.stat().st_mtime
        if _state(result) not in _DONE or age <= GRACE_SECONDS:
            continue
        if 0 <= retention.jobs < age and folder.name not in referenced:
            yield Superfluous(folder, "a job that has ended", folder / _LOCK)
        elif 0 <= retention.job_checkpoints < age and (folder / CHECKPOINTS).is_dir():
            yield Superfluous(folder / CHECKPOINTS, "checkpoints of a job that has ended", folder / _LOCK)


def _state(result: Path) -> str | None:
    try:
        content = json.loads(result.read_bytes())
    except ValueError:
        return None
    return content.get("state") if isinstance(content, dict) else None


def _left_over(data_dir: Path, now: float) -> Iterator[Superfluous]:
    for place in ("jobs/.*", "jobs/*/.*", "models/*/.*"):
        for path in sorted(data_dir.glob(place)):
            if path.is_dir() and path.name.startswith(_LEFT) and now - path.stat().st_mtime > GRACE_SECONDS:
                yield Superfluous(path, "left over from a crash")


def remove(items: Iterable[Superfluous]) -> Iterator[Superfluous]:
    """Delete folders and files, and yield each that is gone; one that somebody holds locked is left.

    A folder gets another name first, so that nobody ever reads half of one.

    Raises:
        OSError: one cannot be deleted.
    """
    for item in items:
        with _unless_held(item.lock) as free:
            if not free or not item.path.exists():
                continue
            doomed = item.path
            if doomed.is_dir() and not doomed.name.startswith(_LEFT):
                doomed = item.path.with_name(f"{_LEFT[0]}{item.path.name}")
                item.path.rename(doomed)
        if doomed.is_dir():
            shutil.rmtree(doomed)
        else:
            doomed.unlink(missing_ok=True)
        log.info("pruned %s: %s", item.path, item.reason)
        yield item


@contextmanager
def _unless_held(lock: Path | None) -> Iterator[bool]:
    if lock is None or not lock.exists():
        yield True
        return
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
