"""Checkpoints on disk: one safetensors file each, written atomically, found by epoch and step."""

from __future__ import annotations

import json
import logging
import re
from hashlib import blake2b
from pathlib import Path
from typing import Any

import safetensors
import safetensors.numpy

from schemas.settings import ScorerSettings
from trainers.files import claim_number, write_atomically
from trainers.scorer.model import Arrays
from trainers.scorer.network import architecture
from trainers.scorer.snapshot import FORM, Snapshot, check_architecture

logger = logging.getLogger(__name__)

_NAME = re.compile(r"scorer-(\d{8})-(\d{12})\.safetensors")
_EPOCH_NAME = "epoch-{}"
_KEY = "tierstream"


class CheckpointUnreadableError(ValueError):
    """A checkpoint file is truncated, damaged or of another program."""


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
        path = self._folder / f"scorer-{snapshot.epoch:08d}-{snapshot.step:012d}.safetensors"
        meta = {**snapshot.meta, "checksum": _checksum(snapshot.arrays)}
        write_atomically(path, safetensors.numpy.save(snapshot.arrays, {_KEY: json.dumps(meta)}))
        self._durable, self._looked = snapshot.next_offset, True
        for old in self._newest_first()[self._settings.checkpoints_kept :]:
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
        claims = self._claims()
        for path in self._newest_first():
            try:
                written = path.stat().st_mtime_ns
                snapshot = _read(path, architecture(self._settings))
            except CheckpointUnreadableError as error:
                self._refuse(path, error)
                continue
            except FileNotFoundError:
                continue
            if any(epoch > snapshot.epoch and claimed <= written for epoch, claimed in claims):
                logger.warning("checkpoint %s is of a former owner, after a later claim: passed over", path.name)
                continue
            self._durable = snapshot.next_offset
            return snapshot
        return None

    def durable_offset(self) -> int | None:
        """Return the input offset that the newest readable checkpoint has learned up to; None without one."""
        if not self._looked:
            self._looked = True
            for path in self._newest_first():
                try:
                    self._durable = int(_read_header(path)["next_offset"])
                    break
                except CheckpointUnreadableError as error:
                    self._refuse(path, error)
        return self._durable

    def _claims(self) -> list[tuple[int, int]]:
        """Return every claimed epoch with the time of its claim in nanoseconds."""
        if not self._epochs.is_dir():
            return []
        numbers = ((int(path.name.rpartition("-")[2]), path) for path in self._epochs.glob("epoch-*"))
        return [(number, path.stat().st_mtime_ns) for number, path in numbers]

    def _refuse(self, path: Path, error: CheckpointUnreadableError) -> None:
        if path.name not in self.refused:
            self.refused.append(path.name)
        logger.warning("%s; the previous checkpoint is used", error)

    def _newest_first(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        found = [(match, path) for path in self._folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        return [
            path for match, path in sorted(found, key=lambda pair: (int(pair[0][1]), int(pair[0][2])), reverse=True)
        ]


def _checksum(arrays: Arrays) -> str:
    digest = blake2b(digest_size=16)
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def _read_header(path: Path) -> dict[str, Any]:
    """Return the JSON part of a checkpoint without its arrays.

    Raises:
        CheckpointUnreadableError: it has none of this form.
    """
    try:
        with safetensors.safe_open(path, "numpy") as file:
            meta = json.loads((file.metadata() or {})[_KEY])
        if meta["form"] != FORM:
            raise CheckpointUnreadableError(f"checkpoint {path} has form {meta['form']}, this program reads {FORM}")
        return dict(meta)
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointUnreadableError(f"checkpoint {path} is truncated or foreign: {error}") from error


def _read(path: Path, wanted: dict[str, Any]) -> Snapshot:
    meta = _read_header(path)
    check_architecture(meta["architecture"], wanted, f"checkpoint {path}")
    arrays = safetensors.numpy.load_file(path)
    if _checksum(arrays) != meta.pop("checksum", None):
        raise CheckpointUnreadableError(f"checkpoint {path} is damaged: its content does not match its checksum")
    return Snapshot(arrays, meta)
