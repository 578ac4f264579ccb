"""Checkpoints on disk: one safetensors file each, written atomically, found by epoch and step."""

from __future__ import annotations

import json
import logging
from hashlib import blake2b
from pathlib import Path
from typing import Any

from schemas.errors import VersionError
from schemas.settings import ScorerSettings
from trainers.files import claim_number, write_atomically
from trainers.scorer.network import architecture
from trainers.scorer.reading import (
    VERSION_FILE,
    CheckpointUnreadableError,
    claims,
    encode,
    file_name,
    is_void,
    newest_first,
    read_checkpoint,
    read_header,
)
from trainers.scorer.snapshot import Snapshot, check_architecture
from trainers.versions import VersionStore

logger = logging.getLogger(__name__)

_EPOCH_NAME = "epoch-{}"


class CheckpointStore:
    """The checkpoints of one scorer, in `folder/checkpoints`, and the claims of its owners, in `folder/epochs`."""

    def __init__(self, folder: Path, settings: ScorerSettings) -> None:
        self._folder = folder / "checkpoints"
        self._epochs = folder / "epochs"
        self._settings = settings
        self._versions = VersionStore(folder.parent)
        self._durable: int | None = None
        self._looked = False
        self.refused: list[str] = []
        """Names of the unreadable files met so far."""

    @property
    def version(self) -> str:
        """Name of the architecture in use; score updates carry it."""
        mark = blake2b(json.dumps(architecture(self._settings), sort_keys=True).encode(), digest_size=4)
        return f"online-r{self._settings.rank}-{mark.hexdigest()}"

    def save(self, snapshot: Snapshot) -> Path:
        """Write a checkpoint and delete those beyond `checkpoints_kept`.

        Raises:
            OSError: the folder cannot be written; older checkpoints stay.
        """
        path = self._folder / file_name(snapshot.epoch, snapshot.step)
        write_atomically(path, encode(snapshot.arrays, snapshot.meta))
        self._durable, self._looked = snapshot.next_offset, True
        for old in newest_first(self._folder)[self._settings.checkpoints_kept :]:
            old.unlink(missing_ok=True)
        return path

    def claim_epoch(self) -> int:
        """Take the scorer over: return an epoch that nobody else has, above all before.

        Raises:
            OSError: the folder cannot be written.
        """
        return claim_number(self._epochs, _EPOCH_NAME)[0]

    def load_latest(self) -> Snapshot | None:
        """Return what to go on from: the newest checkpoint that counts, or None where there is none.

        One that is unreadable is passed over, and so is one that was written after a higher epoch was claimed: its
        writer had lost the scorer and did not know, so that it may hold steps that are void. Where the newest does
        not continue the version in use, that version itself is returned, with epoch 0.

        Raises:
            ArchitectureMismatchError: it is of another architecture; the file stays as it is.
            VersionError: the version in use is not as it was added.
        """
        self._looked, self._durable = True, None
        snapshot = self._newest_or_version()
        self._durable = None if snapshot is None else snapshot.next_offset
        return snapshot

    def new_version(self, base: str | None) -> str | None:
        """Return the version in use where it is another than `base`."""
        version = self._in_use()
        return None if version == base else version

    def _in_use(self) -> str | None:
        return self._versions.in_use("scorer").version

    def _newest_or_version(self) -> Snapshot | None:
        version, claimed = self._in_use(), claims(self._epochs)
        for path in newest_first(self._folder):
            try:
                written, meta = path.stat().st_mtime_ns, read_header(path)
                if is_void(int(meta["epoch"]), written, claimed):
                    logger.warning("checkpoint %s is of a former owner, after a later claim: passed over", path.name)
                    continue
                if version is not None and meta.get("base") != version:
                    break
                return read_snapshot(path, architecture(self._settings))
            except CheckpointUnreadableError as error:
                self._refuse(path, error)
            except FileNotFoundError:
                continue
        return None if version is None else self._of_version(version)

    def _of_version(self, version: str) -> Snapshot:
        return version_snapshot(self._versions, version, self._settings)

    def durable_offset(self) -> int | None:
        """Return the input offset that the newest readable checkpoint has learned up to; None without one."""
        if not self._looked:
            self._looked = True
            for path in newest_first(self._folder):
                try:
                    self._durable = int(read_header(path)["next_offset"])
                    break
                except CheckpointUnreadableError as error:
                    self._refuse(path, error)
        return self._durable

    def _refuse(self, path: Path, error: CheckpointUnreadableError) -> None:
        if path.name not in self.refused:
            self.refused.append(path.name)
        logger.warning("%s; the previous checkpoint is used", error)


def version_snapshot(versions: VersionStore, version: str, settings: ScorerSettings) -> Snapshot:
    """Return what a version of the scorer holds, with epoch 0: nobody has gone on from it yet.

    Raises:
        ArchitectureMismatchError: it is of another architecture.
        VersionError: it is not there, or not as it was added.
    """
    path = versions.verified("scorer", version) / VERSION_FILE
    try:
        return read_snapshot(path, architecture(settings)).as_version(version)
    except (CheckpointUnreadableError, FileNotFoundError) as error:
        raise VersionError(str(error), "go back with `tierstream models rollback scorer`") from error


def read_snapshot(path: Path, wanted: dict[str, Any]) -> Snapshot:
    """Return the snapshot in a file, which is of the architecture `wanted`.

    Raises:
        CheckpointUnreadableError: it is truncated, damaged, or of another form.
        ArchitectureMismatchError: it is of another architecture.
    """
    check_architecture(read_header(path)["architecture"], wanted, f"checkpoint {path}")
    return Snapshot(*read_checkpoint(path))
