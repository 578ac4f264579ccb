"""Checkpoints on disk: one safetensors file each, written atomically, named by the offset in the scorer's log."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from schemas.errors import VersionError
from schemas.settings import ScorerSettings
from trainers.files import write_atomically
from trainers.scorer.architecture import architecture
from trainers.scorer.reading import (
    VERSION_FILE,
    CheckpointUnreadableError,
    encode,
    file_name,
    newest_first,
    read_checkpoint,
)
from trainers.scorer.snapshot import Snapshot, check_architecture
from trainers.versions import VersionStore

logger = logging.getLogger(__name__)


class CheckpointStore:
    """The checkpoints of one scorer, in `folder/checkpoints`.

    Whoever folds the log gets the same state, so that a file says the same whoever wrote it.
    """

    def __init__(self, folder: Path, settings: ScorerSettings) -> None:
        self._folder = folder / "checkpoints"
        self._settings = settings
        self.refused: list[str] = []
        """Names of the unreadable files met so far."""

    def save(self, snapshot: Snapshot) -> Path:
        """Write a checkpoint and delete those beyond `checkpoints_kept`.

        Raises:
            OSError: the folder cannot be written; older checkpoints stay.
        """
        path = self._folder / file_name(snapshot.next_offset)
        write_atomically(path, encode(snapshot.arrays, snapshot.meta))
        for old in newest_first(self._folder)[self._settings.checkpoints_kept :]:
            old.unlink(missing_ok=True)
        return path

    def load(self) -> Snapshot | None:
        """Return the newest readable checkpoint; None without one."""
        for path in newest_first(self._folder):
            try:
                return Snapshot(*read_checkpoint(path))
            except CheckpointUnreadableError as error:
                if path.name not in self.refused:
                    self.refused.append(path.name)
                logger.warning("%s; the previous checkpoint is used", error)
                continue
            except FileNotFoundError:
                continue
        return None


def version_name_of(settings: ScorerSettings) -> str:
    """Return the name of an architecture, which score updates carry until a version of the registry is in use."""
    mark = blake2b(json.dumps(architecture(settings), sort_keys=True).encode(), digest_size=4)
    return f"online-r{settings.rank}-{mark.hexdigest()}"


def version_snapshot(versions: VersionStore, version: str) -> Snapshot:
    """Return what a version of the scorer holds.

    Raises:
        VersionError: it is not there, or not as it was added.
    """
    path = versions.verified(version) / VERSION_FILE
    try:
        return Snapshot(*read_checkpoint(path))
    except (CheckpointUnreadableError, FileNotFoundError) as error:
        raise VersionError(str(error), "go back with `tierstream models rollback scorer`") from error


def architecture_of(versions: VersionStore, version: str) -> dict[str, Any]:
    """Return the architecture of a version of the scorer.

    Raises:
        VersionError: it is not there, or not as it was added.
    """
    found: dict[str, Any] = version_snapshot(versions, version).meta["architecture"]
    return found


def fitting_version(data_dir: Path | str, settings: ScorerSettings) -> tuple[str, int] | None:
    """Return the version in use and the number of its change, where it is of the settings' architecture.

    Raises:
        VersionError: the registry cannot be read, or the version is not as it was added.
    """
    versions = VersionStore(data_dir)
    history = versions.in_use("scorer")
    if history.version is None:
        return None
    found = architecture_of(versions, history.version)
    return (history.version, len(history.history)) if found == architecture(settings) else None


def check_start(snapshot: Snapshot, data_dir: Path | str, settings: ScorerSettings) -> None:
    """See that the settings' architecture is the checkpoint's, or that of a version that was ever put into use.

    Which of these the scorer has come to since the checkpoint stands in its log, which decides.

    Raises:
        ArchitectureMismatchError: none; names both and the remedies.
        VersionError: the registry cannot be read.
    """
    wanted, versions = architecture(settings), VersionStore(data_dir)
    if snapshot.meta["architecture"] == wanted:
        return
    for version in {selection.version for selection in versions.in_use("scorer").history}:
        with suppress(VersionError):  # the log tells whether it is needed
            if architecture_of(versions, version) == wanted:
                return
    check_architecture(snapshot.meta["architecture"], wanted, f"checkpoint {file_name(snapshot.next_offset)}")
