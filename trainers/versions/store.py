"""Versions on disk: `models/<tier>/<version>/`, and `models/<line>/in-use.json`."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from schemas.errors import VersionError
from schemas.events import Candidate, ModelLine, ModelTier, ModelVersion
from schemas.versions import BASES, TIERS, InUse, Selection, VersionName, VersionRecord, line_of
from trainers.files import sync_folder, write_atomically

MANIFEST = "version.json"
IN_USE = "in-use.json"
LINEAGE = "lineage.jsonl"
"""One JSON line an example that the version was trained on, where it has such a file."""

_LOCK = ".lock"
_STAGING = ".staging-"
_LIST = "`tierstream models list` has them"
_NAME: TypeAdapter[str] = TypeAdapter(VersionName)


class VersionStore:
    """All versions of all lines in one data directory; any number of processes may use it at once."""

    def __init__(self, data_dir: Path | str) -> None:
        self._data_dir = Path(data_dir)

    def folder(self, version: str) -> Path:
        """Return the folder that the version has, or would have.

        Raises:
            VersionError: the name is no version's.
        """
        try:
            _NAME.validate_python(version)
        except ValidationError as error:
            raise VersionError(f"{version!r} is no name of a version", _LIST) from error
        return self._models(version.partition("-")[0]) / version

    @contextmanager
    def staging(self, version: str) -> Iterator[Path]:
        """Give a new, empty folder to write a version's files into; what `add` has not taken is deleted.

        Raises:
            VersionError: the name is no version's.
            OSError: the folder cannot be made.
        """
        parent = self.folder(version).parent
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{_STAGING}{version}-", dir=parent))
        folder.chmod(0o755)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add(self, record: VersionRecord, staging: Path) -> VersionRecord:
        """Hash and fsync the files in `staging` and put them into place; one that is there already stays as it is.

        Returns:
            The record as it stands on disk, with its files.

        Raises:
            OSError: the disk is full or read-only; nothing was added.
        """
        target = self.folder(record.version)
        if not target.exists():
            files = {path.relative_to(staging).as_posix(): _sync_and_hash(path) for path in _files(staging)}
            record = record.model_copy(update={"files": files})
            write_atomically(staging / MANIFEST, record.to_json())
            for folder in [path for path in staging.rglob("*") if path.is_dir()]:
                sync_folder(folder)
            try:
                staging.rename(target)
            except OSError:
                # Another process was first: a folder with content is never replaced.
                if not target.exists():
                    raise
            sync_folder(target.parent)
        return self.get(record.version)

    def versions(self, line: ModelLine) -> list[VersionRecord]:
        """Return every version of a line, the oldest first.

        Raises:
            VersionError: a manifest cannot be read.
        """
        used = self._ever_used(line)
        return sorted((self._read(name, used) for name in self.names(line)), key=lambda record: record.created_at)

    def names(self, line: ModelLine) -> list[str]:
        """Return the name of every version of a line, in the alphabet's order; no manifest is read."""
        found = [path for tier in TIERS[line] for path in self._models(tier).glob(f"{tier}-*/{MANIFEST}")]
        return sorted(path.parent.name for path in found)

    def get(self, version: str) -> VersionRecord:
        """Return the version's record; its status tells whether it has been in use.

        Raises:
            VersionError: there is no such version, or its manifest cannot be read.
        """
        return self._read(version, self._ever_used(line_of(version)))

    def _read(self, version: str, used: frozenset[str]) -> VersionRecord:
        path = self.folder(version) / MANIFEST
        try:
            record = VersionRecord.from_json(path.read_bytes())
        except FileNotFoundError as error:
            raise VersionError(f"there is no version {version}", _LIST) from error
        except ValidationError as error:
            raise VersionError(f"{path} cannot be read: {error.errors()[0]['msg']}", "restore it") from error
        return record.model_copy(update={"status": "promoted"}) if version in used else record

    def _ever_used(self, line: ModelLine) -> frozenset[str]:
        """Return the versions of a line that were ever in use, in release 0.1's lines of a tier each too."""
        return frozenset(selection.version for name in {line, *TIERS[line]} for selection in self.in_use(name).history)

    def verified(self, version: str) -> Path:
        """Return the version's folder after every file was found to have the hash that it was added with.

        Raises:
            VersionError: there is no such version, or a file is missing or changed.
        """
        record, folder = self.get(version), self.folder(version)
        for name, wanted in record.files.items():
            path = folder / name
            if not path.is_file() or _hash(path) != wanted:
                what = "is missing" if not path.is_file() else "has changed since it was added"
                back = f"`tierstream models rollback {line_of(version)}`"
                raise VersionError(f"{path} {what}", f"restore it, or run {back} to the one before")
        return folder

    def in_use(self, line: ModelLine | ModelTier) -> InUse:
        """Return the history of the version in use; empty before the first promotion.

        Args:
            line: which one; a tier's is that of release 0.1, where each had a line of its own.

        Raises:
            VersionError: the file cannot be read.
        """
        path = self._models(line) / IN_USE
        try:
            return InUse.from_json(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return InUse()
        except ValidationError as error:
            raise VersionError(f"{path} cannot be read: {error.errors()[0]['msg']}", "restore it") from error

    def missing_start(self) -> VersionError | None:
        """Return what is to be decided where release 0.1 left two lines, and neither has been taken for the policies'.

        Raises:
            VersionError: a history cannot be read.
        """
        old = [version for tier in TIERS["policy"] if (version := self.in_use(tier).version)]
        if not old or self.in_use("policy").history:
            return None
        return VersionError(
            f"dpo and sft are one line now, and this data directory has {' and '.join(old)} in use of the two before",
            f"begin with one of them, `tierstream models promote {old[0]}`, or anew, `tierstream models promote "
            f"{BASES['policy']}`; then `tierstream jobs retry` what failed",
        )

    def promote(self, version: str, reason: str, *, instead_of: str | None = None) -> ModelVersion:
        """Put a version into use; one that is in use already stays so, without a new line in the history.

        Args:
            version: to be in use from now on; one of `BASES` for the base model itself.
            reason: why.
            instead_of: the version that holds what was in use until now, where that went on learning by itself: it
                goes into the history first, in the same write, so that a rollback finds it.

        Returns:
            The event to publish, with `streams.training.model_versions`.

        Raises:
            VersionError: there is no such version, or its files are not as they were added.
            OSError: the history cannot be written; nothing has changed.
        """
        line = line_of(version)
        if version != BASES.get(line):
            self.verified(version)
        with self.locked(line):
            history = self.in_use(line)
            if history.candidate is not None or history.selection is None or history.selection.version != version:
                if instead_of is not None and history.version != instead_of:
                    history = _then(history, instead_of, "promoted", "as it was in use until then")
                history = self._write(line, _then(history, version, "promoted", reason))
        return self.event(history.history[-1])

    def try_out(self, version: str, reason: str, share: float) -> ModelVersion:
        """Let a version answer a share of the queries, instead of one that is tried already; what is in use stays.

        One that is in use, or tried, stays so. Errors as of `promote`.
        """
        line = line_of(version)
        self.verified(version)
        with self.locked(line):
            history = self.in_use(line)
            newest = history.candidate or history.selection
            if newest is None or newest.version != version:
                history = self._write(line, _then(history, version, "tried", reason, share))
        return self.event(history.history[-1])

    def settle(self, line: ModelLine, candidate: str, reason: str, *, take: bool) -> ModelVersion:
        """End a trial, once: put the candidate into use, or leave what is in use so.

        Raises:
            VersionError: another version, or none, is tried by now; or its files are not as they were added.
            OSError: the history cannot be written; nothing has changed.
        """
        if take:
            self.verified(candidate)
        with self.locked(line):
            history = self.in_use(line)
            if history.candidate is None or history.candidate.version != candidate:
                raise VersionError(f"{candidate} is not tried by now", "nothing was changed")
            if take:
                history = _then(history, candidate, "promoted", reason)
            else:
                stays = history.version or BASES[line]
                history = _then(history, stays, "rolled back", reason, previous=candidate)
            self._write(line, history)
        return self.event(history.history[-1])

    def rollback(
        self, line: ModelLine, to: str | None = None, reason: str = "", *, only_from: str | None = None
    ) -> ModelVersion:
        """Go back to what was in use before, or to `to`, which has been in use at some time.

        What was in use at first is the base model; of the scorer, the version that `promote` was given `instead_of`.
        With `only_from`, nothing changes where another version is in use by now.

        Raises:
            VersionError: there is none to go back to, its files are not as they were added, or another is in use.
            OSError: the history cannot be written; nothing has changed.
        """
        with self.locked(line):
            history = self.in_use(line)
            newest = history.selection.version if history.selection else BASES.get(line)
            target = to or self.back_to(line)
            if only_from not in (None, newest):
                raise VersionError(f"{newest} is in use by now, not {only_from}", "nothing was changed")
            if target is None or not history.history:
                raise VersionError(f"no version of {line} was in use before", "nothing was changed")
            if target != BASES.get(line):
                if all(selection.version != target for selection in history.history):
                    raise VersionError(
                        f"{target} has never been in use", f"put it into use with `tierstream models promote {target}`"
                    )
                self.verified(target)
            if newest != target or history.candidate:
                left = history.candidate.version if history.candidate else newest
                history = self._write(line, _then(history, target, "rolled back", reason or f"back from {left}"))
        return self.event(history.history[-1])

    def back_to(self, line: ModelLine) -> str | None:
        """Return what a rollback goes back to: from one that is tried, to what is in use."""
        history = self.in_use(line)
        return history.version or BASES[line] if history.candidate else self.one_before(line)

    def one_before(self, line: ModelLine) -> str | None:
        """Return what was in use before what is: after a rollback that is one further back, not forth again."""
        trail = [BASES[line]] if line in BASES else []
        for selection in self.in_use(line).history:
            if selection.action == "tried":
                continue
            if selection.action == "rolled back" and selection.version in trail:
                trail = trail[: trail.index(selection.version) + 1]
            elif trail[-1:] != [selection.version]:
                trail.append(selection.version)
        return trail[-2] if len(trail) > 1 else None

    def event(self, selection: Selection) -> ModelVersion:
        """Return the public event of a change of the version in use."""
        line, reason = line_of(selection.version), f"{selection.action}: {selection.reason}"
        if selection.action == "tried":
            candidate = Candidate(
                version=selection.version, path=self._path(selection.version), share=selection.share or 0.0
            )
            stays = selection.model_copy(update={"version": selection.previous or BASES[line], "action": "promoted"})
            return self.event(stays).model_copy(update={"reason": reason, "candidate": candidate})
        if selection.version == BASES.get(line):
            return ModelVersion(line=line, version=selection.version, path="", reason=reason)
        record = self.get(selection.version)
        return ModelVersion(
            line=line,
            tier=record.tier,
            version=record.version,
            path=self._path(record.version),
            metrics=record.metrics,
            parent_version=record.parent_version,
            reason=reason,
        )

    @contextmanager
    def locked(self, line: ModelLine) -> Iterator[None]:
        """Hold a lock of the line that no other process or thread has."""
        self._models(line).mkdir(parents=True, exist_ok=True)
        with (self._models(line) / _LOCK).open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _write(self, line: ModelLine, history: InUse) -> InUse:
        write_atomically(self._models(line) / IN_USE, history.to_json())
        return history

    def _path(self, version: str) -> str:
        return self.folder(version).relative_to(self._data_dir).as_posix()

    def _models(self, name: str) -> Path:
        return self._data_dir / "models" / name


def _then(
    history: InUse,
    version: str,
    action: Literal["promoted", "rolled back", "tried"],
    reason: str,
    share: float | None = None,
    previous: str | None = None,
) -> InUse:
    before = previous or history.version
    return history.then(
        Selection(version=version, action=action, previous=before, reason=reason, at=datetime.now(UTC), share=share)
    )


def _files(folder: Path) -> list[Path]:
    """Return every plain file below `folder`, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)


def _sync_and_hash(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return _hash(path)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
