"""Checkpoints on disk: one safetensors file each, written atomically, found by epoch and step."""

from __future__ import annotations

import json
import logging
from hashlib import blake2b
from pathlib import Path
from typing import Any

from schemas.settings import ScorerSettings
from trainers.files import claim_number, write_atomically
from trainers.scorer.network import architecture
from trainers.scorer.reading import (
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

logger = logging.getLogger(__name__)

_EPOCH_NAME = "epoch-{}"


class CheckpointStore:
    """The checkpoints of one scorer, in `folder/checkpoints`, and the claims of its owners, in `folder/epochs`."""

    def __init__(self, folder: Path, settings: ScorerSettings) -> None:
        self._folder = folder / "checkpoints"
        self._epochs = folder / "epochs"
        self._settings = settings
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
        """Return the newest checkpoint that counts, or None where there is none.

        One that is unreadable is passed over, and so is one that was written after a higher epoch was claimed: its
        writer had lost the scorer and did not know, so that it may hold steps that are void.

        Raises:
            ArchitectureMismatchError: it is of another architecture; the file stays as it is.
        """
        self._looked, self._durable = True, None
        claimed = claims(self._epochs)
        for path in newest_first(self._folder):
            try:
                written = path.stat().st_mtime_ns
                snapshot = read_snapshot(path, architecture(self._settings))
            except CheckpointUnreadableError as error:
                self._refuse(path, error)
                continue
            except FileNotFoundError:
                continue
            if is_void(snapshot.epoch, written, claimed):
                logger.warning("checkpoint %s is of a former owner, after a later claim: passed over", path.name)
                continue
            self._durable = snapshot.next_offset
            return snapshot
        return None

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


def read_snapshot(path: Path, wanted: dict[str, Any]) -> Snapshot:
    """Return the snapshot in a file, which is of the architecture `wanted`.

    Raises:
        CheckpointUnreadableError: it is truncated, damaged, or of another form.
        ArchitectureMismatchError: it is of another architecture.
    """
    check_architecture(read_header(path)["architecture"], wanted, f"checkpoint {path}")
    return Snapshot(*read_checkpoint(path))
